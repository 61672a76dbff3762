"""How far the geometry of a scanner is trusted: earned by clean images, then sampled, lost by one finding.

Reading text takes longer than all else that de-identification does. A scanner whose pictures were checked often enough has
shown that its areas hold no text, and is looked at now and then only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey

__all__ = ["CheckOutcome", "TextVerdict", "TrustPolicy", "TrustState", "decide", "is_sampled", "transition"]


class TextVerdict(StrEnum):
    """Whether an image's text is looked for, and why."""

    TRUSTED = "trusted"
    UNTRUSTED_CHECKED = "untrusted-checked"
    SAMPLED_CHECKED = "sampled-checked"

    @property
    def checks(self) -> bool:
        """Whether text is looked for."""
        return self is not TextVerdict.TRUSTED


class CheckOutcome(StrEnum):
    """What came of looking for text in one image."""

    CLEAN = "clean"
    FINDING = "finding"


@dataclass(frozen=True)
class TrustPolicy:
    """What earns trust, and what it is worth.

    Parameters
    ----------
    clean_images
        Images without a finding, one after the other, that earn trust.
    sample_one_in
        Of the images of a trusted scanner, one in this many is checked nevertheless; 1 checks all.

    Raises
    ------
    ValueError
        If one is less than 1.
    """

    clean_images: int = 50
    sample_one_in: int = 100

    def __post_init__(self) -> None:
        if self.clean_images < 1 or self.sample_one_in < 1:
            msg = f"Expected numbers of images from 1 up, got {self.clean_images} and {self.sample_one_in}"
            raise ValueError(msg)


class TrustState(Struct, frozen=True, kw_only=True):
    """What is known of one scanner under one set of rules: clean images since the last finding, and findings ever."""

    clean: int = 0
    findings: int = 0


def transition(state: TrustState, outcome: CheckOutcome) -> TrustState:
    """Return the state after a check.

    Examples
    --------
    >>> transition(TrustState(clean=49), CheckOutcome.CLEAN)
    TrustState(clean=50, findings=0)
    >>> transition(TrustState(clean=50), CheckOutcome.FINDING)
    TrustState(clean=0, findings=1)
    """
    if outcome is CheckOutcome.FINDING:
        return TrustState(clean=0, findings=state.findings + 1)
    return TrustState(clean=state.clean + 1, findings=state.findings)


def decide(state: TrustState, policy: TrustPolicy, *, sampled: bool) -> TextVerdict:
    """Return whether an image is to be checked."""
    if state.clean < policy.clean_images:
        return TextVerdict.UNTRUSTED_CHECKED
    return TextVerdict.SAMPLED_CHECKED if sampled else TextVerdict.TRUSTED


def is_sampled(key: PseudonymKey, content_id: str, policy: TrustPolicy) -> bool:
    """Return whether a content is in the sample: the same for every worker, and foreseen by nobody without the key."""
    hasher = key.hasher("text-sample")
    hasher.update(content_id.encode())
    return int.from_bytes(hasher.digest()[:8]) % policy.sample_one_in == 0
