"""FetalMLOps: an MLOps system for fetal ultrasound."""

__version__ = "0.1.0"
