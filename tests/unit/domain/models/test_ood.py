from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.ood import OodReference, false_alarms, fit_ood
from fetalmlops.domain.models.tensors import write_tensors

CENTRES = np.random.default_rng(0).uniform(0.5, 3, (3, 12))


def draw(seed: int, images: int, centres: np.ndarray = CENTRES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(len(centres), size=images)
    features = np.maximum(centres[classes] + rng.normal(0, 0.1, (images, centres.shape[1])), 0)
    return features.astype(np.float32), classes


@pytest.fixture(scope="module")
def reference() -> OodReference:
    features, classes = draw(1, 600)
    return fit_ood(features, classes, draw(2, 400)[0])


def test_in_scope_images_score_at_most_one_as_often_as_asked(reference: OodReference) -> None:
    scores = reference.score(draw(3, 2000)[0])
    assert 0.003 < (scores > 1).mean() < 0.03


def test_images_between_the_classes_score_higher(reference: OodReference) -> None:
    between, _ = draw(4, 200, centres=CENTRES.mean(axis=0, keepdims=True))
    assert (reference.score(between) > 1).mean() > 0.95


def test_the_score_is_the_mahalanobis_distance_of_the_nearest_class() -> None:
    features, classes = draw(5, 300)
    reference = fit_ood(features, classes, features, shrinkage=0.0, quantile=1.0)
    transformed = np.log1p(features.astype(np.float64))
    means = np.stack([transformed[classes == each].mean(axis=0) for each in range(3)])
    residuals = transformed - means[classes]
    precision = np.linalg.inv(residuals.T @ residuals / len(residuals))
    differences = transformed[:, None] - means
    expected = np.sqrt(np.einsum("icf,fg,icg->ic", differences, precision, differences).min(axis=1))
    np.testing.assert_allclose(reference.distance(features), expected, rtol=1e-3)


def test_it_survives_its_bytes(reference: OodReference) -> None:
    features, _ = draw(6, 20)
    read = OodReference.from_bytes(reference.to_bytes())
    np.testing.assert_allclose(read.score(features), reference.score(features), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"means": np.zeros((2, 3)), "whitening": np.eye(4), "scale": [1.0]},
        {"means": np.zeros((2, 3)), "whitening": np.eye(3), "scale": [0.0]},
        {"means": np.full((2, 3), np.nan), "whitening": np.eye(3), "scale": [1.0]},
        {"means": np.zeros((2, 3)), "whitening": np.eye(3)},
    ],
    ids=["shapes", "scale", "not finite", "missing"],
)
def test_broken_references_are_refused(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(ContractError):
        OodReference.from_bytes(write_tensors(wrong))


def two_sources(seed: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, classes = draw(seed, images)
    sources = np.array(["a", "b"])[np.random.default_rng(seed + 100).integers(2, size=images)]
    return features + (sources == "b")[:, None].astype(np.float32) * 0.8, classes, sources


def test_fitted_on_both_sources_it_calls_neither_out_of_scope() -> None:
    features, classes, sources = two_sources(1, 800)
    held_out, _, held_out_sources = two_sources(2, 800)
    one = fit_ood(features[sources == "a"], classes[sources == "a"], held_out[held_out_sources == "a"])
    both = fit_ood(features, classes, held_out, sources=sources, held_out_sources=held_out_sources)
    fresh, _, fresh_sources = two_sources(3, 2000)
    assert false_alarms(one.score(fresh), fresh_sources)["b"] > 0.5
    assert max(false_alarms(both.score(fresh), fresh_sources).values()) < 0.03
    between, _ = draw(4, 200, centres=CENTRES.mean(axis=0, keepdims=True) + 5)
    assert (both.score(between) > 1).all()


def test_negative_features_have_a_score(reference: OodReference) -> None:
    assert np.isfinite(reference.score(np.full((1, 12), -7, np.float32))).all()
