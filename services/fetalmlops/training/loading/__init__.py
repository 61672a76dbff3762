"""From a data set on disk to batches: frames are prepared once as in serving, and varied anew in every epoch."""
