"""The de-identification stage."""
