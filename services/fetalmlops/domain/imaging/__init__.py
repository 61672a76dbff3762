"""From DICOM frames to normalised frames, the same for serving and training."""
