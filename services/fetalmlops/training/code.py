"""Digest of the code that decides what a training gives."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

__all__ = ["code_digest"]

_PACKAGES: Final = ("domain/contracts", "domain/imaging", "domain/learning", "domain/models", "training")


def code_digest() -> str:
    """Return the SHA-256, as 64 hexadecimal digits, over the sources of normalisation, models and training."""
    hasher = hashlib.sha256()
    root = resources.files("fetalmlops")
    for package in _PACKAGES:
        for name, data in _sources(root / package, package):
            hasher.update(f"{name}\0{len(data)}\0".encode() + data)
    return hasher.hexdigest()


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        place = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, place)
        elif entry.name.endswith(".py"):
            yield place, entry.read_bytes()
