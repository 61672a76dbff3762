"""What publications say of their data sets, as it comes with the package."""

from __future__ import annotations

from importlib import resources

import msgspec

__all__ = ["published_answers"]


def published_answers() -> dict[str, dict[str, str]]:
    """Return the answers for datasheets, by layout and the question's key."""
    data = resources.files("fetalmlops.domain.learning.data").joinpath("datasheets.toml").read_bytes()
    return msgspec.toml.decode(data, type=dict[str, dict[str, str]])
