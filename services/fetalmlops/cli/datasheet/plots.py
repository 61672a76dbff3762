"""Plots of a data set, as SVG images for a page that stands alone."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

__all__ = ["plot_facts"]

_COLOURS = {"train": "#0b4fa0", "validation": "#c77700", "test": "#17663a", "unknown": "#6b7280"}
_WIDTH = 7.0
_MOST = 12


def plot_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return plots of a data set's figures: for each its title, which says what it shows, and a data URI."""
    titles = {
        "planes": "Planes",
        "brain_planes": "Sub-planes of the brain",
        "scanners": "Scanners",
        "operators": "Operators",
    }
    plots = [
        (f"{title}: images by split", _bars(f"{title}: images by split", facts[key]))
        for key, title in titles.items()
        if facts[key]
    ]
    plots.append(("Patients: how many have how many images", _patients(facts["images_per_patient"]["counts"])))
    plots.append(("Sizes: columns and rows of images", _sizes(facts["sizes"])))
    return plots


def _bars(title: str, table: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    names = list(table)[:_MOST][::-1]
    figure, axes = _figure(title, 1.1 + 0.34 * len(names))
    left = [0] * len(names)
    for split, colour in _COLOURS.items():
        counts = [table[name].get(split, {}).get("images", 0) for name in names]
        if any(counts):
            axes.barh(names, counts, left=left, color=colour, label=split)
            left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.set_xlabel("images")
    axes.legend(frameon=False, fontsize=8)
    return _uri(figure)


def _patients(counts: Mapping[str, int]) -> str:
    figure, axes = _figure("Images of a patient", 2.6)
    axes.bar([int(size) for size in counts], list(counts.values()), color=_COLOURS["train"], width=0.8)
    axes.set_xlabel("images of a patient")
    axes.set_ylabel("patients")
    return _uri(figure)


def _sizes(sizes: list[dict[str, int]]) -> str:
    figure, axes = _figure("Sizes of images", 3.4)
    most = max(size["images"] for size in sizes)
    areas = [12 + 200 * size["images"] / most for size in sizes]
    columns, rows = ([size[side] for size in sizes] for side in ("columns", "rows"))
    axes.scatter(columns, rows, s=areas, color=_COLOURS["train"], alpha=0.6)
    axes.set_xlabel("columns, pixels")
    axes.set_ylabel("rows, pixels")
    return _uri(figure)


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _uri(figure: Figure) -> str:
    target = io.BytesIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(target.getvalue()).decode()}"
