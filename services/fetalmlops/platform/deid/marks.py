"""The mark of the project's pseudonym key in the object store, by which a process with another key is found.

``phi/keys/<project>`` holds the key's fingerprint. The first process that starts writes it; nobody changes it, since the key of
a project is never rotated.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["verify_key_mark"]


def verify_key_mark(objects: ObjectStore, key: PseudonymKey) -> None:
    """Make sure that our key is that of the project's store; a store without a mark gets ours.

    Raises
    ------
    SettingsError
        If the store is marked with another key.
    TransientError
        If the store does not answer.
    """
    uri, ours = f"phi/keys/{key.project}", key.fingerprint
    if not objects.exists(uri) and _mark(objects, uri, ours.encode()):
        return
    theirs = objects.read(uri).decode("ascii", "replace")
    if theirs != ours:
        msg = (
            f"Expected the pseudonym key {theirs[:64]} that marks the store of project {key.project}, got {ours}; "
            "restore the key file: under another key known patients get other pseudonyms"
        )
        raise SettingsError(msg)


def _mark(objects: ObjectStore, uri: str, fingerprint: bytes) -> bool:
    """Write the mark; return False if another process was faster."""
    with tempfile.TemporaryDirectory(prefix="key-", dir=objects.incoming_folder(Zone.PHI)) as folder:
        draft = Path(folder) / "mark"
        draft.write_bytes(fingerprint)
        digest = hashlib.sha256(fingerprint).hexdigest()
        return objects.add_file(uri, draft, "text/plain", sha256=digest) is not None
