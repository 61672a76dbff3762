"""The ledger of a data set: every use of it to judge a model, one JSON line each, only ever appended.

A test set that was looked at often is no longer one; so each report says how often.
"""

from __future__ import annotations

import getpass
import os
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.domain.errors import ContractError
from fetalmlops.platform.learning.datasets import LEDGER, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.platform.learning.evaluation import ImageSource

__all__ = ["Use", "note_use", "read_uses", "record_use"]

_OWNER_ONLY: Final = 0o600


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One use: when (UTC), by whom, of which images, with which bundle, and what for."""

    time: str
    account: str
    purpose: str
    split: str
    images: int
    data_digest: str
    bundle: str
    bundle_digest: str


def note_use(data: ImageSource, images: Iterable[ImageEntry], bundle: str, bundle_digest: str, purpose: str) -> None:
    """Write into a data set's ledger that images of it were used now: one entry for each split that they are of.

    Parameters
    ----------
    data
        The data set; one that was not opened from a state folder has no ledger, and nothing is written.
    images
        The images.
    bundle, bundle_digest
        Name and version of the bundle that ran on them, and its digest.
    purpose
        What for.
    """
    if not isinstance(data, Dataset) or data.ledger is None:
        return
    for split, count in sorted(Counter(image.split for image in images).items()):
        use = Use(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            account=getpass.getuser(),
            purpose=purpose,
            split=split,
            images=count,
            data_digest=data.digest,
            bundle=bundle,
            bundle_digest=bundle_digest,
        )
        record_use(data.ledger, use)


def record_use(path: Path, use: Use) -> None:
    """Append a use; it is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    line = msgspec.json.encode(use) + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _OWNER_ONLY)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_uses(data: Dataset, split: str) -> list[Use]:
    """Return the uses of one split of a data set, in order; none where there is no ledger.

    Raises
    ------
    ContractError
        If a line is none that `record_use` wrote (reason ``data-ledger``): the ledger was changed.
    """
    try:
        lines = data.ledger.read_bytes().splitlines() if data.ledger else []
        uses = [msgspec.json.decode(line, type=Use) for line in lines]
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError:
        msg = f"Expected {LEDGER} with one use a line, got another line; restore the file, it is only ever appended to"
        raise ContractError(msg, reason="data-ledger") from None
    return [use for use in uses if use.data_digest == data.digest and use.split == split]
