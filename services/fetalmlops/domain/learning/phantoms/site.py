"""A data set of phantoms as a hospital would label it: no split, whole patients by one of its scanners.

It lies as folders of planes with a table of patients, scanners and site: the layout ``folders``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fetalmlops.domain.learning.phantoms.images import PhantomImage, PhantomSet, check_size
from fetalmlops.domain.learning.phantoms.scanners import KINDS, TABLE, folder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["plan_site"]

_PER_PATIENT: Final = 4


def plan_site(name: str, scanners: Sequence[str], images: int, seed: int) -> PhantomSet:
    """Plan a site's data set; equal arguments give equal plans.

    Parameters
    ----------
    name
        Name of the site: another one's images are others.
    scanners
        Its scanners, by name.
    images
        How many.
    seed
        Seed.

    Raises
    ------
    ContractError
        If fewer than `LEAST_IMAGES` are wanted.
    """
    check_size(images)
    made: list[PhantomImage] = []
    rows = ["path,patient,scanner,site"]
    for number in range(images):
        plane, brain_plane = KINDS[number % len(KINDS)]
        patient = number // _PER_PATIENT
        scanner = scanners[patient % len(scanners)]
        path = f"{folder_of(plane, brain_plane)}/{number:05}.png"
        its_seed = (seed, *name.encode(), number)
        made.append(
            PhantomImage(path=path, plane=plane, brain_plane=brain_plane, scanner=scanner, seed=its_seed, cropped=True)
        )
        rows.append(f"{path},{patient},{scanner},{name}")
    return PhantomSet(images=made, table_path=TABLE, table="\n".join(rows) + "\n")
