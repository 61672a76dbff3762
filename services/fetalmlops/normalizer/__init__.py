"""The normalisation stage."""
