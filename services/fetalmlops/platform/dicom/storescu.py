"""C-STORE service class user: sends DICOM files exactly as they are stored, over several associations.

Each pair of SOP class and transfer syntax is proposed in a presentation context of its own, so that a peer accepts or
refuses precisely what a file holds; nothing is ever transcoded. Datasets go from the file to the network in chunks.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_context

from fetalmlops.domain.errors import ContractError, TransientError
from fetalmlops.platform.settings import TlsSettings
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.events import Event

__all__ = ["Peer", "SendOutcome", "Storable", "find_files", "read_storable", "send_files", "status_name"]

# Read files in chunks and send their datasets untouched, instead of decoding and encoding them anew.
_config.STORE_SEND_CHUNKED_DATASET = True

_MAX_CONTEXTS = 128
_SUCCESS = 0x0000
_LOST = "association lost before the response"
_WARNINGS = frozenset({0xB000, 0xB006, 0xB007})
_STATUS_NAMES = (
    (0x0000, 0x0000, "success"),
    (0x0117, 0x0117, "invalid SOP instance"),
    (0x0122, 0x0122, "SOP class not supported"),
    (0x0124, 0x0124, "not authorized"),
    (0x0210, 0x0212, "duplicate, unrecognized or mistyped"),
    (0xA700, 0xA7FF, "out of resources"),
    (0xA900, 0xA9FF, "dataset does not match SOP class"),
    (0xB000, 0xB0FF, "warning"),
    (0xC000, 0xCFFF, "cannot understand"),
)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Whom to send to, and as whom.

    Parameters
    ----------
    host, port
        Address of the service class provider.
    called, calling
        Its AE title, and ours.
    tls
        TLS of the association; `TlsSettings.certificate_file` is our client certificate.
    timeout_s
        Time to wait for a connection, a negotiation and each response, seconds.
    """

    host: str
    port: int
    called: str
    calling: str = "FETALSIM"
    tls: TlsSettings = field(default_factory=TlsSettings)
    timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Storable:
    """A file that can be sent: what its file meta information says."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def context(self) -> tuple[str, str]:
        """What must be negotiated: SOP class and transfer syntax."""
        return self.sop_class_uid, self.transfer_syntax_uid


@dataclass(frozen=True, kw_only=True)
class SendOutcome:
    """What became of a file.

    Parameters
    ----------
    path
        The file.
    sop_instance_uid
        Its SOP Instance UID; empty where it could not be read.
    status
        The peer's C-STORE status; None where it gave none.
    error
        Why there is no status; empty where there is one.
    size
        Bytes of the file.
    seconds
        Time from request to response.
    """

    path: Path
    sop_instance_uid: str = ""
    status: int | None = None
    error: str = ""
    size: int = 0
    seconds: float = 0.0

    @property
    def stored(self) -> bool:
        """Whether the peer has the instance: success, or a warning."""
        return self.status == _SUCCESS or self.status in _WARNINGS

    @property
    def summary(self) -> str:
        """The status in words, or the error."""
        return self.error if self.status is None else f"0x{self.status:04X} {status_name(self.status)}"


def status_name(status: int) -> str:
    """Return the meaning of a C-STORE status (PS3.4 B.2.3, PS3.7 C).

    Examples
    --------
    >>> status_name(0x0000), status_name(0xA700)
    ('success', 'out of resources')
    """
    return next((name for first, last, name in _STATUS_NAMES if first <= status <= last), "failure")


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of the given files and folders, folders recursively, each folder in order of name."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def read_storable(path: Path) -> Storable:
    """Read what must be known of a file before it is sent.

    Raises
    ------
    ContractError
        If the file is not a Part 10 file, or its file meta information lacks what is needed.
    OSError
        If it cannot be read.
    """
    try:
        meta = read_file_meta_info(path)
        return Storable(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, KeyError, ValueError, NotImplementedError):
        msg = "Expected a DICOM Part 10 file with SOP class, SOP instance and transfer syntax, got none; leave it out"
        raise ContractError(msg, reason="not-part-10") from None


def send_files(paths: Iterable[Path], peer: Peer, *, associations: int = 1) -> Iterator[SendOutcome]:
    """Send files and yield what became of each, as the responses come.

    A lost association costs the instance on it and is opened anew; where none can be opened any more, the rest is
    reported as not sent. Closing the generator stops the sending.

    Parameters
    ----------
    paths
        Part 10 files; others are reported with their error.
    peer
        Whom to send to.
    associations
        Associations at once.
    """
    storables: list[Storable] = []
    for path in paths:
        try:
            storables.append(read_storable(path))
        except (ContractError, OSError) as error:
            yield SendOutcome(path=path, error=str(error) if isinstance(error, ContractError) else "cannot be read")
    for batch in _batches(storables):
        yield from _Batch(batch, peer).send(associations)


def _batches(storables: Sequence[Storable]) -> Iterator[list[Storable]]:
    """Split by context, so that each batch fits into the contexts of one association (PS3.8 9.3.2.2: 128)."""
    contexts = iter(dict.fromkeys(storable.context for storable in storables))
    while some := frozenset(islice(contexts, _MAX_CONTEXTS)):
        yield [storable for storable in storables if storable.context in some]


class _Batch:
    """Files that share their presentation contexts, shared out among associations."""

    def __init__(self, storables: Sequence[Storable], peer: Peer) -> None:
        self._peer = peer
        self._tls = (client_ssl_context(peer.tls), peer.host) if peer.tls.enabled else None
        self._contexts = [build_context(*context) for context in dict.fromkeys(s.context for s in storables)]
        self._todo = deque(storables)
        self._outcomes: queue.SimpleQueue[SendOutcome | str] = queue.SimpleQueue()
        self._stop = threading.Event()
        # One after the other: a peer that is short of associations would otherwise refuse all at once.
        self._opening = threading.Lock()

    def send(self, associations: int) -> Iterator[SendOutcome]:
        threads = [
            threading.Thread(target=self._work, daemon=True, name="storescu")
            for _ in range(max(1, min(associations, len(self._todo))))
        ]
        for thread in threads:
            thread.start()
        reasons: list[str] = []
        try:
            while len(reasons) < len(threads):
                outcome = self._outcomes.get()
                if isinstance(outcome, SendOutcome):
                    yield outcome
                else:
                    reasons.append(outcome)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        why = next(filter(None, reasons), "not sent")
        for storable in self._todo:
            yield SendOutcome(path=storable.path, sop_instance_uid=storable.sop_instance_uid, error=why)

    def _work(self) -> None:
        """Send over one association until nothing is left; report at the end why it ended early, or nothing."""
        association: Association | None = None
        reason = ""
        try:
            while self._todo and not self._stop.is_set():
                if association is None or not association.is_established:
                    association = self._associate()
                try:
                    storable = self._todo.popleft()
                except IndexError:
                    break
                outcome = _store(association, storable)
                self._outcomes.put(outcome)
                if outcome.error == _LOST:
                    association = None
            if association is not None and association.is_established:
                association.release()
        except TransientError as error:
            reason = str(error)
        finally:
            self._outcomes.put(reason)

    def _associate(self) -> Association:
        peer = self._peer
        entity = AE(ae_title=peer.calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.timeout_s
        entity.connection_timeout = peer.timeout_s
        with self._opening:
            association = entity.associate(
                peer.host,
                peer.port,
                contexts=self._contexts,
                ae_title=peer.called,
                tls_args=self._tls,
                evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once)],
            )
        if not association.is_established:
            msg = f"no association: {_why(association)}"
            raise TransientError(msg, dependency="peer", everyone=True)
        return association


def _why(association: Association) -> str:
    answer = association.acceptor.primitive
    if answer is None:
        return "no connection or no answer"
    if association.is_rejected:
        return f"{answer.result_str.lower()}: {answer.reason_str.lower()}"
    return "none of the SOP classes and transfer syntaxes is accepted"


def _send_at_once(event: Event) -> None:
    """Turn Nagle's algorithm off: it would hold back the last, short PDU of each instance."""
    with contextlib.suppress(OSError):
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _store(association: Association, storable: Storable) -> SendOutcome:
    start = time.perf_counter()
    status, error, size = None, "", 0
    try:
        size = storable.path.stat().st_size
        answer = association.send_c_store(storable.path)
        status = int(answer.Status) if "Status" in answer else None
        error = "" if status is not None else _LOST
    except ValueError:
        error = "SOP class or transfer syntax not accepted by the peer"
    except RuntimeError:
        error = _LOST
    except (OSError, AttributeError):
        error = "cannot be read"
    return SendOutcome(
        path=storable.path,
        sop_instance_uid=storable.sop_instance_uid,
        status=status,
        error=error,
        size=size,
        seconds=time.perf_counter() - start,
    )
