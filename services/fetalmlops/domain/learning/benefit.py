"""Whether a bundle that was fitted to a site is worth having: better there, and no worse where the old one served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.comparison import compare
from fetalmlops.domain.models.evidence import Estimate as Evident

if TYPE_CHECKING:
    from fetalmlops.domain.learning.comparison import Comparison
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.predictions import Predictions

__all__ = ["MARGIN", "SHOWN", "Benefit", "check_benefit", "difference_text", "evident", "weigh"]

MARGIN: Final = 0.05
"""By how much accuracy may fall, and the loss rise, on the images of the old site: what bounds their intervals."""

SHOWN: Final = ("accuracy", "macro_f1", "negative_log_likelihood", "expected_calibration_error")
"""Differences that are told."""

_LOSS: Final = "negative_log_likelihood"


@dataclass(frozen=True)
class Benefit:
    """The new bundle less the old one, on images of patients that had no part in the fit.

    Parameters
    ----------
    site
        On the site's images.
    kept
        On those of the site that the old bundle serves; None where none were given.
    """

    site: Comparison
    kept: Comparison | None


def weigh(
    before: Predictions,
    after: Predictions,
    kept_before: Predictions | None = None,
    kept_after: Predictions | None = None,
) -> Benefit:
    """Compare a fitted bundle with the one that it was made from.

    Parameters
    ----------
    before, after
        What the old one says of the site's images, and what fits to other patients say.
    kept_before, kept_after
        The same for images of the old site.
    """
    kept = None if kept_before is None or kept_after is None else compare(kept_before, kept_after)
    return Benefit(compare(before, after), kept)


def check_benefit(benefit: Benefit) -> None:
    """Refuse a fit that is not shown to do better at the site, or not shown to do no worse at the old one.

    The loss decides, which falls with both errors and false confidence: the upper bound of its difference must lie below 0 at
    the site. At the old site that of the loss must lie within `MARGIN`, and so must the lower bound of the accuracy's.

    Raises
    ------
    ContractError
        If it is not shown; reason ``no-better`` or ``worse``, and the text has the figures.
    """
    loss = benefit.site.differences[_LOSS]
    if loss.high is None or loss.high >= 0:
        msg = (
            f"Expected a loss that is shown to fall on other patients of the site, got a change of {difference_text(loss)} "
            f"over {loss.patients} patients; no bundle is made: choose the level calibrate, or label images of more patients"
        )
        raise ContractError(msg, reason="no-better")
    if benefit.kept is None:
        return
    loss, accuracy = benefit.kept.differences[_LOSS], benefit.kept.differences["accuracy"]
    bounded = loss.high is not None and loss.high <= MARGIN
    if not bounded or accuracy.low is None or accuracy.low < -MARGIN:
        msg = (
            f"Expected the site served so far to be shown no worse by more than {MARGIN:g}, got a change of the loss of "
            f"{difference_text(loss)} and of the accuracy of {difference_text(accuracy)} over {loss.patients} patients; no "
            "bundle is made: keep images of more of its patients, or leave the old bundle to it"
        )
        raise ContractError(msg, reason="worse")


def difference_text(estimate: Estimate) -> str:
    """Return a difference with its interval, for a person.

    Examples
    --------
    >>> from fetalmlops.domain.learning.intervals import Estimate
    >>> difference_text(Estimate(-0.0281, -0.05, 0.001, 60, 30))
    '-0.028 (-0.050 to +0.001)'
    """
    if estimate.value is None:
        return "not available"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.3f} (no interval)"
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def evident(comparison: Comparison) -> dict[str, Evident]:
    """Return the differences as a manifest keeps them; those without an interval are left out."""
    found = {}
    for name in SHOWN:
        each = comparison.differences[name]
        if each.value is not None and each.low is not None and each.high is not None:
            found[f"{name}_difference"] = Evident(
                value=each.value, low=each.low, high=each.high, images=each.images, patients=each.patients
            )
    return found
