"""HC18 (van den Heuvel et al., PLoS ONE 13:e0200412, 2018): fetal heads for the head circumference, ``NUMBER_HC.png``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.learning.layouts.listing import Listed, Listing, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CITATION", "LICENCE", "NAME", "read_hc18"]

NAME: Final = "hc18"
"""Name of the layout."""

LICENCE: Final = "CC BY 4.0"
"""Licence under which the data set is published."""

CITATION: Final = (
    "van den Heuvel TLA et al., Automated measurement of fetal head circumference using 2D ultrasound images, "
    "PLoS ONE 13:e0200412, 2018; Zenodo record 1327317"
)
"""What to cite."""

_IMAGE = re.compile(r"(?:.*/)?(\d+)(?:_\d+)?(?:_?HC)\.png")


def read_hc18(paths: Iterable[str]) -> Listing:
    """List the images: each shows a brain; whether it is trans-thalamic or trans-ventricular is not said.

    The leading number of a name is the patient. Outlines (``_Annotation``) are no images, and are left out.

    Parameters
    ----------
    paths
        Paths of the PNG files within the data's folder.

    Raises
    ------
    ContractError
        If none is an image of this data set.

    Examples
    --------
    >>> [image.patient for image in read_hc18(["010_HC.png", "010_2HC.png", "010_HC_Annotation.png"]).images]
    ['10', '10']
    """
    found = ((path, _IMAGE.fullmatch(path)) for path in sorted(paths))
    images = [Listed(path=path, patient=str(int(match[1])), plane=Plane.BRAIN) for path, match in found if match]
    if not images:
        refuse("Expected images named as 010_HC.png, got none; check the folder")
    return Listing(NAME, images)
