"""Out-of-scope score: how far an image lies from what the model was fitted on.

Class-conditional Mahalanobis distance (Lee et al., NeurIPS 2018) on pooled features of the network's last two blocks, after
``log1p``: the pooled features are non-negative and skewed. The score is divided by a high quantile of the distances of
held-out images in scope, so that 1 is the limit whatever the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OodReference", "fit_ood"]


@dataclass(frozen=True, eq=False)
class OodReference:
    """What the distances are measured from.

    Parameters
    ----------
    means
        Mean of each class's transformed features, [classes, features].
    whitening
        Matrix that makes the within-class covariance the identity, [features, features].
    scale
        Distance that scores 1.

    Examples
    --------
    >>> reference = OodReference(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32), 2.0)
    >>> reference.score(np.expm1(np.float32([[3, 4]]))).round(3)
    array([2.5])
    """

    means: NDArray[np.float32]
    whitening: NDArray[np.float32]
    scale: float

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of each image's `features`, [images, features], from the nearest class mean."""
        whitened = np.log1p(features) @ self.whitening
        centres = self.means @ self.whitening
        differences = whitened[:, None, :].astype(np.float64) - centres[None]
        return np.asarray(np.sqrt((differences**2).sum(axis=2)).min(axis=1), np.float64)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the out-of-scope score of each image, [images]; 1 is the limit."""
        return self.distance(features) / self.scale

    def to_bytes(self) -> bytes:
        """Return it as safetensors."""
        return write_tensors({"means": self.means, "whitening": self.whitening, "scale": [self.scale]})

    @classmethod
    def from_bytes(cls, data: bytes) -> OodReference:
        """Read it from safetensors; raises `ContractError` if tensors are missing or their shapes do not match."""
        tensors = read_tensors(data, ("means", "whitening", "scale"))
        means, whitening, scale = tensors["means"], tensors["whitening"], tensors["scale"]
        length = means.shape[-1]
        if means.ndim != 2 or whitening.shape != (length, length) or scale.shape != (1,) or scale[0] <= 0:
            msg = "Expected means [classes, features], whitening [features, features] and a positive scale, got others"
            raise ContractError(msg, reason="bundle")
        return cls(means, whitening, float(scale[0]))


def fit_ood(
    features: NDArray[np.float32],
    classes: NDArray[np.int64],
    held_out: NDArray[np.float32],
    *,
    quantile: float = 0.99,
    shrinkage: float = 0.1,
) -> OodReference:
    """Fit the reference.

    Parameters
    ----------
    features
        Pooled features of training images, [images, features].
    classes
        Class of each training image, [images].
    held_out
        Pooled features of images in scope that the network was not trained on, [images, features]: they set the scale,
        because a network's own training images lie nearer than any others.
    quantile
        Share of the held-out images that score at most 1.
    shrinkage
        Share of the covariance that is replaced by a multiple of the identity.
    """
    transformed = np.log1p(features).astype(np.float64)
    names = np.unique(classes)
    means = np.stack([transformed[classes == name].mean(axis=0) for name in names])
    residuals = transformed - means[np.searchsorted(names, classes)]
    covariance = residuals.T @ residuals / len(residuals)
    length = len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / length * np.eye(length)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    reference = OodReference(means.astype(np.float32), whitening.astype(np.float32), 1.0)
    scale = float(np.quantile(reference.distance(held_out), quantile))
    return OodReference(reference.means, reference.whitening, scale)
