"""The page of a datasheet, and its pictures."""

from __future__ import annotations

import base64
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fetalmlops import __version__
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.learning.datasets import as_grey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.datasheet import Answer
    from fetalmlops.platform.learning.datasets import Dataset

__all__ = ["contact_sheets", "datasheet_page"]

_SIDE = 112
_QUALITY = 70


def contact_sheets(dataset: Dataset, each: int, seed: int = 0) -> dict[str, str]:
    """Return small pictures of each plane, in one image a plane, as data URIs.

    Parameters
    ----------
    dataset
        The data set.
    each
        Most pictures of a plane: of as many patients as there are.
    seed
        Seed of the draw.

    Raises
    ------
    ContractError
        If an image cannot be read.
    """
    by_plane: defaultdict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for image in dataset.manifest.images:
        by_plane[image.plane or "no label"][image.patient].append(image)
    sheets = {}
    rng = np.random.default_rng(seed)
    for name in sorted(by_plane, key=lambda word: list(Plane).index(Plane(word))):
        patients = rng.permutation(sorted(by_plane[name]))[:each].tolist()
        chosen = [by_plane[name][patient][int(rng.integers(len(by_plane[name][patient])))] for patient in patients]
        tiles = [_tile(as_grey(dataset.read(image))) for image in chosen]
        _, data = cv2.imencode(".jpg", np.hstack(tiles), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        sheets[str(name)] = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return sheets


def datasheet_page(
    dataset: Dataset, facts: Mapping[str, Any], sections: Mapping[str, list[Answer]], sheets: Mapping[str, str]
) -> str:
    """Return the page of a datasheet: one HTML file that asks for nothing else.

    Parameters
    ----------
    dataset
        The data set.
    facts
        Its figures.
    sections
        Its answers.
    sheets
        Its pictures, empty for none.

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    """
    try:
        from fetalmlops.cli.datasheet.plots import plot_facts
    except ModuleNotFoundError as error:
        msg = f"Expected the report extra for a page with plots, got no {error.name}; pip install 'fetalmlops[report]'"
        raise SettingsError(msg) from None
    environment = Environment(
        loader=PackageLoader("fetalmlops.cli.datasheet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=lambda value: f"{value:,}")
    return environment.get_template("datasheet.html.j2").render(
        manifest=dataset.manifest,
        digest=dataset.digest,
        facts=facts,
        sections=sections,
        plots=plot_facts(facts),
        sheets=sheets,
        side=_SIDE,
        version=__version__,
        tables={
            "Planes": facts["planes"],
            "Sub-planes of the brain": facts["brain_planes"],
            "Scanners": facts["scanners"],
            "Operators": facts["operators"],
            "Sites": facts["sites"],
        },
    )


def _tile(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image fitted into a small square."""
    scale = _SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    tile: NDArray[np.uint8] = np.zeros((_SIDE, _SIDE), np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return tile
