"""Structured reports: a clean tree of measurements, built from what the rules for content let through."""
