"""Fixtures of the de-identification tests."""

from support.deid import deidentifier, files, key

__all__ = ["deidentifier", "files", "key"]
