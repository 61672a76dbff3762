"""Weights to begin training from, kept as safetensors with what is known of where they come from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from safetensors import SafetensorError, deserialize

from fetalmlops.domain.contracts.events import Sha256
from fetalmlops.domain.errors import ContractError, DigestMismatchError, SettingsError
from fetalmlops.platform.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.platform.settings import Settings

__all__ = ["RECORD", "TENSORS", "TensorEntry", "WeightsRecord", "add_weights", "is_safetensors", "list_weights",
    "open_weights", "weights_folder"]  # fmt: skip

TENSORS: Final = "weights.safetensors"
"""File of the tensors in the folder of weights."""

RECORD: Final = "weights.json"
"""File beside it that says what they are."""


class TensorEntry(Struct, frozen=True):
    """Element type, such as ``F32``, and shape of a tensor."""

    type: str
    shape: list[int]


class WeightsRecord(Struct, frozen=True, kw_only=True):
    """What is known of weights.

    ``sha256`` is the digest of the safetensors file, ``original_sha256`` that of the file that was added. ``source`` says in
    words who made them from what data.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    licence: Annotated[str, Meta(min_length=1, max_length=200)]
    source: Annotated[str, Meta(min_length=1, max_length=2000)]
    sha256: Sha256
    original_sha256: Sha256
    tensors: dict[str, TensorEntry]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        total = 0
        for entry in self.tensors.values():
            count = 1
            for length in entry.shape:
                count *= length
            total += count
        return total


def weights_folder(settings: Settings) -> Path:
    """Return the folder of all weights."""
    return settings.home / "weights"


def is_safetensors(data: bytes) -> bool:
    """Return whether bytes are safetensors: their own header decides, not the file's name."""
    return _entries(data) is not None


def add_weights(
    settings: Settings, data: bytes, *, name: str, licence: str, source: str, original: bytes
) -> WeightsRecord:
    """Keep weights under a name; those of the same name are replaced.

    Parameters
    ----------
    settings
        The settings; they say where the state folder is.
    data
        The tensors, as safetensors.
    name
        Their name from now on.
    licence, source
        Their licence, and in words where they come from.
    original
        The file that was added.

    Raises
    ------
    ContractError
        If they are no safetensors, hold no tensors, or name, licence or source are empty or too long (reason ``weights``).
    """
    entries = _entries(data)
    if not entries:
        msg = "Expected safetensors with tensors, got none; add another file"
        raise ContractError(msg, reason="weights")
    record = WeightsRecord(
        name=name,
        licence=licence,
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        original_sha256=hashlib.sha256(original).hexdigest(),
        tensors=dict(sorted(entries.items())),
    )
    text = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    _read_record(text)
    folder = weights_folder(settings) / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file, content in ((TENSORS, data), (RECORD, text)):
        replace_file(folder / file, content)
    return record


def list_weights(settings: Settings) -> list[WeightsRecord]:
    """Return what is known of all weights, by name."""
    return [_read_record(path.read_bytes()) for path in sorted(weights_folder(settings).glob(f"*/{RECORD}"))]


def open_weights(settings: Settings, name: str) -> tuple[WeightsRecord, bytes]:
    """Return what is known of weights, and the tensors as safetensors, whose digest was verified.

    Raises
    ------
    SettingsError
        If there are none of this name.
    ContractError
        If their record cannot be read.
    DigestMismatchError
        If the tensors have changed.
    """
    folder = weights_folder(settings) / name
    try:
        record, data = _read_record((folder / RECORD).read_bytes()), (folder / TENSORS).read_bytes()
    except OSError:
        known = ", ".join(record.name for record in list_weights(settings)) or "none"
        msg = f"Expected the name of weights that were added, got another; those added: {known}"
        raise SettingsError(msg) from None
    if hashlib.sha256(data).hexdigest() != record.sha256:
        msg = "Expected weights as they were added, got changed ones; add them again"
        raise DigestMismatchError(msg)
    return record, data


def _entries(data: bytes) -> dict[str, TensorEntry] | None:
    """Return what tensors safetensors hold; None for other bytes."""
    try:
        found: list[tuple[str, dict[str, Any]]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return None
    return {name: TensorEntry(tensor["dtype"], list(tensor["shape"])) for name, tensor in found}


def _read_record(data: bytes) -> WeightsRecord:
    try:
        return msgspec.json.decode(data, type=WeightsRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        msg = f"Expected a name, a licence and a source of weights, got others: {error}; add them again"
        raise ContractError(msg, reason="weights") from None
