"""Many small instances, made quickly: one phantom is rendered, and every copy gets UIDs of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fetalmlops.domain.simulation import SCANNERS, BurnIn, InstanceSpec, make_instance
from fetalmlops.domain.simulation.pixels import Layout, Photometric

_SMALL = replace(
    SCANNERS[0],
    rows=150,
    columns=200,
    area=(15, 16, 175, 145),
    header=(2, 1, 198, 14),
    sidebar=(178, 17, 199, 100),
    bar=(3, 22, 7, 62),
)
GREY = Layout(photometric=Photometric.MONOCHROME2)
SMALL = InstanceSpec(scanner=_SMALL, layout=GREY, burn_in=BurnIn.NONE)
"""150 x 200 grey pixels with one region: about 33 kB."""
SCREEN = InstanceSpec(layout=GREY, burn_in=BurnIn.NONE)
"""600 x 800 grey pixels with one region: about 480 kB."""
_DIGITS = 7


def write_instances(
    folder: Path, count: int, *, first: int = 0, studies: int = 1, spec: InstanceSpec = SMALL
) -> dict[Path, str]:
    """Write copies of one ultrasound image, each with UIDs of its own.

    Parameters
    ----------
    folder
        Where to; made if it is missing.
    count
        How many.
    first
        Number of the first: instances of other numbers are other instances, up to 9,999,999.
    studies
        Over how many studies they are dealt out, one by one.
    spec
        What they are.

    Returns
    -------
    dict of Path to str
        Each file's SOP Instance UID, in the order of the numbers.
    """
    data = make_instance(spec).data
    folder.mkdir(parents=True, exist_ok=True)
    uids = {}
    for number in range(first, first + count):
        path, uid = folder / f"{number:07d}.dcm", _numbered(spec.sop_instance_uid, number)
        own = data.replace(spec.sop_instance_uid.encode(), uid.encode())
        study = _numbered(spec.study_instance_uid, number % studies)
        path.write_bytes(own.replace(spec.study_instance_uid.encode(), study.encode()))
        uids[path] = uid
    return uids


def _numbered(uid: str, number: int) -> str:
    return f"{uid[:-_DIGITS]}{number:0{_DIGITS}d}"
