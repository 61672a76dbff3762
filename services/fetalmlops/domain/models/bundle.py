"""Bundles: a model with everything that decides its answers, sealed by digests.

A bundle is a flat set of files: the manifest, the network (ONNX), its weights, the out-of-scope reference, reference
inputs and outputs for a check at loading, and the card. Here are only bytes; where they lie is the platform's matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError, DigestMismatchError
from fetalmlops.domain.models.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    Precision,
    decode_manifest,
    encode_manifest,
)
from fetalmlops.domain.models.ood import OodReference
from fetalmlops.domain.models.tensors import read_frames, read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bundle", "Reference", "bundle_digest", "load_bundle", "seal_bundle", "verify_file"]

_MEDIA_TYPES: Final = {
    "onnx": "application/onnx",
    "safetensors": "application/safetensors",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "toml": "application/toml",
}


@dataclass(frozen=True, eq=False)
class Reference:
    """Frames with the probabilities that an engine must reproduce before it serves.

    Parameters
    ----------
    frames
        Frames as they come from the normaliser, ``uint8`` of [frames, rows, columns].
    planes, brain_planes
        Calibrated probabilities of each frame, ``float32`` of [frames, labels]; no column where there are no labels.
    """

    frames: NDArray[np.uint8]
    planes: NDArray[np.float32]
    brain_planes: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """Return it as safetensors."""
        return write_tensors({"frames": self.frames, "planes": self.planes, "brain_planes": self.brain_planes})

    @classmethod
    def from_bytes(cls, data: bytes, brain_planes: int = len(BRAIN_PLANES)) -> Reference:
        """Read it from safetensors; raises `ContractError` if tensors are missing or their shapes do not match."""
        frames, tensors = read_frames(data, "frames"), read_tensors(data, ("planes", "brain_planes"))
        expected = {"planes": (len(frames), len(PLANES)), "brain_planes": (len(frames), brain_planes)}
        if {name: tensor.shape for name, tensor in tensors.items()} != expected:
            msg = f"Expected reference probabilities of the shapes {expected}, got others; rebuild the bundle"
            raise ContractError(msg, reason="bundle")
        return cls(frames, **tensors)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Parameters
    ----------
    manifest
        Its manifest.
    digest
        SHA-256 of the manifest's bytes.
    files
        All files by name, the manifest among them.
    ood
        Out-of-scope reference; None where the bundle has none.
    reference
        Reference inputs and outputs.
    """

    manifest: Manifest
    digest: str
    files: Mapping[str, bytes] = field(repr=False)
    ood: OodReference | None = field(repr=False)
    reference: Reference = field(repr=False)

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest as it was sealed: its SHA-256 is `digest`."""
        return self.files[MANIFEST_NAME]

    def network(self, precision: Precision) -> bytes:
        """Return the ONNX of a precision.

        Raises
        ------
        ContractError
            If the bundle has no variant of it.
        """
        variant = self.manifest.variants.get(precision)
        if variant is None:
            has, gate = ", ".join(sorted(self.manifest.variants)), self.manifest.evidence.gates.get(str(precision))
            why = f", which missed {', '.join(gate.missed)} when the bundle was made" if gate and gate.missed else ""
            msg = f"Expected a precision that this bundle has ({has}), got {precision}{why}; set inference.precision to another"
            raise ContractError(msg, reason="precision")
        return self.files[variant.file]


def bundle_digest(manifest: bytes) -> str:
    """Return a bundle's digest: the SHA-256 of its manifest's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(manifest).hexdigest()


def verify_file(name: str, data: bytes, entry: FileEntry) -> None:
    """Check one file against its manifest entry.

    Raises
    ------
    DigestMismatchError
        If size or digest differ.
    """
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        msg = f"Expected {name} with the manifest's digest, got {len(data)} other bytes; fetch the bundle again"
        raise DigestMismatchError(msg)


def load_bundle(files: Mapping[str, bytes], digest: str = "") -> Bundle:
    """Verify a bundle's files and read them.

    Parameters
    ----------
    files
        Contents by name; names that the manifest does not list are ignored.
    digest
        Digest that the bundle must have; empty for any.

    Raises
    ------
    ContractError
        If the manifest is missing or broken, a listed file is missing or cannot be read.
    DigestMismatchError
        If the manifest or a listed file differs from its digest.
    """
    manifest_bytes = _file(files, MANIFEST_NAME)
    found = bundle_digest(manifest_bytes)
    if digest and found != digest:
        msg = f"Expected a bundle of digest {digest[:12]}…, got {found[:12]}…; fetch the bundle again"
        raise DigestMismatchError(msg)
    manifest = decode_manifest(manifest_bytes)
    kept = {name: _file(files, name) for name in manifest.files}
    for name, entry in manifest.files.items():
        verify_file(name, kept[name], entry)
    return Bundle(
        manifest=manifest,
        digest=found,
        files={MANIFEST_NAME: manifest_bytes, **kept},
        ood=OodReference.from_bytes(kept[manifest.ood]) if manifest.ood else None,
        reference=Reference.from_bytes(kept[manifest.reference], len(manifest.brain_planes)),
    )


def seal_bundle(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return all files of a bundle, the manifest with their digests among them.

    Parameters
    ----------
    manifest
        The manifest; its ``files`` are replaced.
    files
        Contents by name, without the manifest.
    """
    entries = {
        name: FileEntry(
            sha256=hashlib.sha256(data).hexdigest(), size=len(data), media_type=_MEDIA_TYPES[name.rpartition(".")[2]]
        )
        for name, data in files.items()
    }
    sealed = encode_manifest(msgspec.structs.replace(manifest, files=entries))
    return {MANIFEST_NAME: sealed, **files}


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    try:
        return files[name]
    except KeyError:
        msg = f"Expected the bundle's file {name}, got none; fetch the bundle again"
        raise ContractError(msg, reason="bundle") from None
