"""Plots of a report, as SVG that a page carries within itself."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, Final

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fetalmlops.domain.learning.comparison import Placed
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.leave_out import LeaveOut
    from fetalmlops.domain.learning.reliability import Bin

__all__ = [
    "confusion_plot",
    "gaps_plot",
    "intervals_plot",
    "pareto_plot",
    "reliability_plot",
    "require_plots",
    "risk_plot",
]

_BLUE: Final = "#0b4fa0"
_SOFT: Final = "#6b7682"
_RED: Final = "#9c1c1c"
_STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "svg.hashsalt": "fetalmlops",
    "svg.fonttype": "path",
}


def require_plots() -> None:
    """Refuse to go on without what plots need.

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        msg = "Expected matplotlib for the report, got none; pip install 'fetalmlops[report]', or give --no-html"
        raise SettingsError(msg) from None
    mpl.use("svg")


def confusion_plot(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a confusion matrix, coloured by the share of each row."""
    figure, axes = _axes(1.6 + 0.72 * len(names), 1.2 + 0.6 * len(names))
    shares = [[cell / max(1, sum(row)) for cell in row] for row in confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, cells in enumerate(confusion):
        for column, count in enumerate(cells):
            colour = "white" if shares[row][column] > 0.55 else "#1b1f24"
            axes.text(column, row, f"{count:,}" if count else "·", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="called", ylabel="label")
    axes.tick_params(length=0)
    return _svg(figure)


def reliability_plot(table: Sequence[Bin]) -> str:
    """Return accuracy against confidence, larger where there are more images, with their number below."""
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(4.6, 4.4), sharex=True, height_ratios=(3, 1), layout="constrained"
        )
    shown = [each for each in table if each.accuracy is not None]
    above.plot([0, 1], [0, 1], color=_SOFT, linestyle="--", linewidth=1)
    where = ([each.confidence for each in shown], [each.accuracy for each in shown])
    most = max((each.images for each in shown), default=1)
    above.plot(*where, color=_BLUE, linewidth=0.6)
    above.scatter(*where, [12 + 90 * each.images / most for each in shown], _BLUE, clip_on=False, zorder=3)
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
    below.bar([each.low for each in table], [each.images for each in table], 1 / len(table), align="edge", color=_BLUE)
    below.set(xlabel="confidence", ylabel="images")
    below.yaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def risk_plot(coverage: Sequence[float], risk: Sequence[float], target: float) -> str:
    """Return the share of wrong images among the surest, as more are kept."""
    figure, axes = _axes(4.6, 3.2)
    axes.plot(coverage, risk, color=_BLUE, drawstyle="steps-post")
    axes.axhline(target, color=_RED, linestyle=":", linewidth=1)
    axes.annotate(f"wished: {target:g}", (0, target), xytext=(3, 3), textcoords="offset points", color=_RED, fontsize=9)
    axes.set(xlabel="share of images kept, the surest first", ylabel="share wrong", xlim=(0, 1), ylim=(0, None))
    return _svg(figure)


def intervals_plot(rows: Mapping[str, Estimate], label: str, limits: Mapping[str, float] | None = None) -> str:
    """Return figures with their intervals, one a row; a tick marks what the intended use asks for."""
    figure, axes = _axes(5.2, 0.9 + 0.38 * len(rows))
    for index, (name, estimate) in enumerate(rows.items()):
        if estimate.value is None:
            axes.annotate("no images", (0, index), color=_SOFT, va="center", fontsize=9)
            continue
        if estimate.low is not None:
            axes.plot([estimate.low, estimate.high], [index, index], color=_BLUE, linewidth=2)
        axes.plot(estimate.value, index, "o", color=_BLUE, markersize=6)
        if limits and name in limits:
            axes.plot(limits[name], index, marker="|", color=_RED, markersize=16, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", color="#d7dde3", linewidth=0.6)
    return _svg(figure)


def gaps_plot(found: LeaveOut) -> str:
    """Return accuracy on each group of the model without it, filled, and of the one with all, empty."""
    figure, axes = _axes(6.4, 1.1 + 0.5 * len(found.groups))
    for index, each in enumerate(found.groups.values()):
        for figures, shift, face, label in (
            (each.left_out, 0.12, _BLUE, "left out"),
            (each.within, -0.12, "white", "within"),
        ):
            estimate = figures.get("accuracy")
            if estimate is None or estimate.value is None:
                continue
            if estimate.low is not None:
                axes.plot([estimate.low, estimate.high], [index + shift] * 2, color=_BLUE, linewidth=1.5, zorder=1)
            axes.plot(
                estimate.value,
                index + shift,
                "o",
                color=_BLUE,
                markerfacecolor=face,
                markersize=7,
                label=label if index == 0 else None,
            )
    axes.set_yticks(range(len(found.groups)), list(found.groups))
    axes.set(xlabel="accuracy", ylim=(len(found.groups) - 0.5, -0.5))
    axes.grid(axis="x", color="#d7dde3", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def pareto_plot(placed: Sequence[Placed]) -> str:
    """Return accuracy against time and energy, with the numbers of the candidates from 1, the chosen one filled."""
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        figure, both = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True, layout="constrained")
    for axes, name, label in zip(
        both, ("latency_ms", "joules"), ("ms an image (measured)", "J an image (modelled)"), strict=True
    ):
        for number, each in enumerate(placed, 1):
            where = (getattr(each.candidate, name), each.candidate.accuracy)
            colour = _SOFT if each.dominated else _BLUE
            face, ink = (_BLUE, "white") if each.chosen else ("white", colour)
            axes.plot(*where, "o", markersize=15, color=colour, markerfacecolor=face, clip_on=False)
            axes.annotate(str(number), where, ha="center", va="center", color=ink, fontsize=8, annotation_clip=False)
        axes.set(xlabel=label)
        axes.margins(x=0.12, y=0.15)
        axes.set_xlim(0, None)
        axes.grid(color="#d7dde3", linewidth=0.6)
        axes.set_axisbelow(True)
    both[0].set_ylabel("accuracy")
    return _svg(figure)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        return plt.subplots(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    """Return a figure as a data URI, and free it."""
    from matplotlib import pyplot as plt

    text = io.BytesIO()
    with plt.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return f"data:image/svg+xml;base64,{base64.b64encode(text.getvalue()).decode('ascii')}"
