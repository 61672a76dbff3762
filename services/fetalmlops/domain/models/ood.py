"""Out-of-scope score: how far an image lies from what the model was fitted on.

Class-conditional Mahalanobis distance (Lee et al., NeurIPS 2018) on pooled features of the network's last two blocks, after
``log1p`` of their size: pooled features are skewed. The score is divided by a high quantile of the distances of
held-out images in scope, so that 1 is the limit whatever the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OodReference", "false_alarms", "fit_ood"]


_LEAST_IN_SOURCE = 8


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
        whitened = _transformed(features) @ self.whitening
        differences = whitened[:, None, :].astype(np.float64) - self._centres[None]
        return np.asarray(np.sqrt((differences**2).sum(axis=2)).min(axis=1), np.float64)

    @cached_property
    def _centres(self) -> NDArray[np.float32]:
        return self.means @ self.whitening

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
    sources: NDArray[np.str_] | None = None,
    held_out_sources: NDArray[np.str_] | None = None,
    quantile: float = 0.99,
    shrinkage: float = 0.1,
) -> OodReference:
    """Fit the reference.

    Fitted on one source, it calls other scanners out of scope. So each class has a mean per source, the covariance is pooled
    within class and source, and the scale is that of the held-out source that needs the widest.

    Parameters
    ----------
    features
        Pooled features of training images, [images, features].
    classes
        Class of each training image, [images].
    held_out
        Pooled features of images in scope that the network was not trained on, [images, features]: they set the scale,
        because a network's own training images lie nearer than any others.
    sources, held_out_sources
        Source of each image, such as its site or scanner, [images]; None where there is one source only. A class that a source
        shows fewer than 8 times has its mean over all sources.
    quantile
        Share of the held-out images that score at most 1.
    shrinkage
        Share of the covariance that is replaced by a multiple of the identity.
    """
    transformed = _transformed(features).astype(np.float64)
    groups = _groups(classes, sources)
    means = np.stack([transformed[groups == group].mean(axis=0) for group in range(groups.max() + 1)])
    residuals = transformed - means[groups]
    covariance = residuals.T @ residuals / len(residuals)
    length = len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / length * np.eye(length)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    reference = OodReference(means.astype(np.float32), whitening.astype(np.float32), 1.0)
    distances = reference.distance(held_out)
    parts = [distances] if held_out_sources is None else _by_source(distances, held_out_sources).values()
    scale = max(float(np.quantile(part, quantile)) for part in parts)
    return OodReference(reference.means, reference.whitening, scale)


def false_alarms(scores: NDArray[np.float64], sources: NDArray[np.str_], limit: float = 1.0) -> dict[str, float]:
    """Return the share of images in scope that score above the limit, by source: what the limit costs.

    Examples
    --------
    >>> false_alarms(np.array([0.5, 1.5, 0.2]), np.array(["a", "a", "b"]))
    {'a': 0.5, 'b': 0.0}
    """
    return {name: float((part > limit).mean()) for name, part in _by_source(scores, sources).items()}


def _by_source(values: NDArray[np.float64], sources: NDArray[np.str_]) -> dict[str, NDArray[np.float64]]:
    return {str(name): values[sources == name] for name in np.unique(sources)}


def _groups(classes: NDArray[np.int64], sources: NDArray[np.str_] | None) -> NDArray[np.int64]:
    """Return a number per image, from 0: its class, or its class in its source where there are enough of them."""
    if sources is None:
        return np.asarray(np.unique(classes, return_inverse=True)[1], np.int64)
    names = np.array([f"{each}|{source}" for each, source in zip(classes.tolist(), sources.tolist(), strict=True)])
    found, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    pooled = np.array([str(each) for each in classes.tolist()])
    return np.asarray(
        np.unique(np.where(counts[inverse] >= _LEAST_IN_SOURCE, found[inverse], pooled), return_inverse=True)[1],
        np.int64,
    )


def _transformed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    # The same as log1p for features that are not negative, and defined for those of any activation.
    return np.asarray(np.sign(features) * np.log1p(np.abs(features)), features.dtype)
