"""The gates of an evaluation's report, for a promotion: of that very bundle, by the intended use that counts here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.learning.gates import GateResult

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_gates"]

_TEST: Final = "test"


class _Named(msgspec.Struct, frozen=True):
    digest: str


class _Data(msgspec.Struct, frozen=True):
    split: str


class _Report(msgspec.Struct, frozen=True):
    """What of a report a promotion reads."""

    bundle: _Named
    data: _Data
    intended_use: _Named
    gates: list[GateResult]


def read_gates(path: Path, bundle_digest: str, use_digest: str) -> list[GateResult]:
    """Return the gates of a report of `fetalmlops evaluate`.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    ContractError
        If it is no such report, or one of another bundle, of other images than a test split's, or by another intended use.
    """
    try:
        report = msgspec.json.decode(path.read_bytes(), type=_Report)
    except OSError as error:
        msg = f"Expected a report that can be read, got {error.strerror}; name report.json of `fetalmlops evaluate`"
        raise SettingsError(msg) from None
    except msgspec.MsgspecError as error:
        msg = f"Expected a report of `fetalmlops evaluate`, got a file that breaks it: {error}; name its report.json"
        raise ContractError(msg, reason="evaluation") from None
    wanted = {"bundle": bundle_digest, "split": _TEST, "intended use": use_digest}
    found = {"bundle": report.bundle.digest, "split": report.data.split, "intended use": report.intended_use.digest}
    if other := [name for name in wanted if found[name] != wanted[name]]:
        msg = (
            f"Expected a report of this bundle on {_TEST} images by the present intended use, got another {other[0]}; "
            "evaluate it again"
        )
        raise ContractError(msg, reason="evaluation")
    return report.gates
