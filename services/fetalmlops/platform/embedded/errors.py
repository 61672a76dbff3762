"""The error of the embedded system."""

from __future__ import annotations

from fetalmlops.domain.errors import FetalMLOpsError

__all__ = ["EmbeddedError"]


class EmbeddedError(FetalMLOpsError, RuntimeError):
    """The embedded system cannot be set up, started or stopped: something on this machine has to be mended first."""
