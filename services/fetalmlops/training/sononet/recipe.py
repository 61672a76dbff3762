"""The recipe, named before it scored an image: decisions 10 and 11 in docs/decisions/ say why."""

from __future__ import annotations

from typing import Final, NamedTuple

from fetalmlops.domain.models.manifest import Fit, InputSpec

__all__ = ["INPUT", "Recipe"]

INPUT: Final = InputSpec(rows=288, columns=224, fit=Fit.STRETCH)
"""What SonoNet-16 was trained on: the sector, stretched."""


class Recipe(NamedTuple):
    """All that is chosen by hand."""

    augmentations: int = 12
    """Varied copies of each training image, beside the image itself."""
    strength: float = 0.003
    """Inverse of the plane head's L2 penalty (scikit-learn's ``C``), on linear part and gain, with weights of mean 1."""
    brain_strength: float = 0.0003
    """The same for the brain head, which has a third of the labels."""
    target_accuracy: float = 0.9
    """Accuracy that accepted left-out images reach together."""
    accept_brain: float = 1.0
    """No brain sub-plane is accepted: so few labels prove no threshold."""
    ood_quantile: float = 0.95
    """Share of each source's left-out images, of patients that were not fitted on, that are in scope at least."""
    ood_shrinkage: float = 0.1
    """Share of the features' covariance that is replaced by a multiple of the identity."""
    foreign: int = 40
    """Images of each kind that is no ultrasound."""
    serving_runs: int = 200
    """Inferences over which serving is measured."""
