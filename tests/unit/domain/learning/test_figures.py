"""Figures of classification, calibration and selective prediction, each against a slow reference of its own."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.comparison import Candidate, mcnemar, pareto
from fetalmlops.domain.learning.exams import exam_figures
from fetalmlops.domain.learning.foreign import share_above
from fetalmlops.domain.learning.reliability import (
    brier,
    class_gaps,
    log_loss,
    reliability_table,
    top_gaps,
    total_gap,
)
from fetalmlops.domain.learning.selective import accuracy_at, aurc, risk_coverage
from fetalmlops.domain.models.calibration import expected_calibration_error, negative_log_likelihood, softmax


def drawn(seed: int, images: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(0, 1, (images, classes))
    logits[np.arange(images), labels] += 1
    return softmax(logits), labels


def reference_f1(labels: np.ndarray, called: np.ndarray, name: int) -> float:
    hits = sum(1 for a, b in zip(labels, called, strict=True) if a == b == name)
    wrong = sum(1 for a, b in zip(labels, called, strict=True) if b == name != a)
    missed = sum(1 for a, b in zip(labels, called, strict=True) if a == name != b)
    return 2 * hits / (2 * hits + wrong + missed)


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_a_confusion_matrix_are_those_counted_by_hand(seed: int) -> None:
    probabilities, labels = drawn(seed)
    called = probabilities.argmax(axis=1)
    confusion = metrics.one_hot_confusion(labels, called, 4).sum(axis=0)
    assert metrics.accuracy(confusion) == pytest.approx(np.mean(labels == called))
    expected = [reference_f1(labels, called, name) for name in range(4)]
    assert metrics.f1(confusion) == pytest.approx(expected)
    assert metrics.macro_f1(confusion) == pytest.approx(np.mean(expected))
    recalls = [np.mean(called[labels == name] == name) for name in range(4)]
    assert metrics.recall(confusion) == pytest.approx(recalls)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(np.mean(recalls))
    assert metrics.precision(confusion) == pytest.approx([np.mean(labels[called == name] == name) for name in range(4)])


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the train extra")
    probabilities, labels = drawn(seed)
    called = probabilities.argmax(axis=1)
    confusion = metrics.one_hot_confusion(labels, called, 4).sum(axis=0)
    assert confusion.tolist() == sklearn.confusion_matrix(labels, called).tolist()
    assert metrics.macro_f1(confusion) == pytest.approx(sklearn.f1_score(labels, called, average="macro"))
    assert metrics.balanced_accuracy(confusion) == pytest.approx(sklearn.balanced_accuracy_score(labels, called))
    assert log_loss(probabilities, labels).mean() == pytest.approx(sklearn.log_loss(labels, probabilities))
    confidence, right = probabilities.max(axis=1), called == labels
    auroc = sklearn.roc_auc_score(right, confidence)
    assert share_above(confidence[~right], confidence[right]).mean() == pytest.approx(auroc)


def test_classes_without_images_have_no_recall_and_count_in_no_mean() -> None:
    confusion = np.array([[3.0, 1.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.isnan(metrics.recall(confusion)[2])
    assert metrics.balanced_accuracy(confusion) == pytest.approx((0.75 + 1) / 2)
    assert metrics.macro_f1(confusion) == pytest.approx((6 / 7 + 8 / 9) / 2)


def test_an_unlabelled_image_counts_nowhere() -> None:
    assert metrics.one_hot_confusion(np.array([-100, 1]), np.array([0, 1]), 2).sum() == 1


@pytest.mark.parametrize("seed", range(3))
def test_calibration_figures_are_those_of_the_plain_definitions(seed: int) -> None:
    probabilities, labels = drawn(seed)
    images = np.array(float(len(labels)))
    found = total_gap(top_gaps(probabilities, labels).sum(axis=0), images)
    assert found == pytest.approx(expected_calibration_error(probabilities, labels))
    by_class = total_gap(class_gaps(probabilities, labels).sum(axis=0), images)
    for name in range(4):
        gap = 0.0
        for low in range(15):
            inside = [i for i, p in enumerate(probabilities[:, name]) if min(int(p * 15), 14) == low]
            gap += abs(sum(probabilities[i, name] - (labels[i] == name) for i in inside)) / len(labels)
        assert by_class[name] == pytest.approx(gap)
    slow = [
        sum((p - (k == label)) ** 2 for k, p in enumerate(row))
        for row, label in zip(probabilities, labels, strict=True)
    ]
    assert brier(probabilities, labels) == pytest.approx(slow)
    assert log_loss(probabilities, labels).mean() == pytest.approx(negative_log_likelihood(probabilities, labels))


def test_the_reliability_table_counts_each_image_once() -> None:
    probabilities, labels = drawn(5)
    table = reliability_table(probabilities, labels)
    assert sum(each.images for each in table) == len(labels)
    for each in table:
        if each.confidence is not None:
            assert each.low <= each.confidence <= each.high
    total = sum(each.images * (each.accuracy or 0) for each in table)
    assert total / len(labels) == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels), abs=1e-4)


def test_the_area_under_the_risk_coverage_curve_weighs_images_as_if_they_were_repeated() -> None:
    rng = np.random.default_rng(3)
    confidence, correct = rng.permutation(30) / 30, rng.random(30) < 0.7
    weights = rng.integers(0, 3, 30)
    repeated = np.repeat(np.arange(30), weights)
    _, risk = risk_coverage(confidence[repeated], correct[repeated])
    plain = risk_coverage(confidence, correct)[1].mean()
    found = aurc(confidence, correct, np.stack([np.ones(30), weights]).astype(float))
    assert found[0] == pytest.approx(plain)
    # Copies of an image share one step of the weighted curve, and stand one after the other in the repeated one.
    assert found[1] == pytest.approx(risk.mean(), abs=0.03)


def test_accuracy_of_the_surest_half() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False])
    assert accuracy_at(confidence, correct, (0.5, 1.0)) == {0.5: 1.0, 1.0: 0.5}


def test_mcnemar_is_the_exact_binomial() -> None:
    right = np.array([True] * 12 + [False] * 3 + [True] * 5)
    other = np.array([False] * 12 + [True] * 3 + [True] * 5)
    exact = 2 * sum(Fraction(comb(15, k), 2**15) for k in range(4))
    found = mcnemar(right, other)
    assert (found.only_first, found.only_second) == (12, 3)
    assert found.p_value == pytest.approx(float(exact), abs=1e-6)
    assert mcnemar(right, right).p_value == 1
    assert 0 <= mcnemar(np.arange(6000) < 3100, np.arange(6000) >= 3100).p_value < 0.02


def test_auroc_counts_pairs() -> None:
    inside, outside = np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.5, 0.7, 1.0])
    pairs = np.mean([(b > a) + 0.5 * (b == a) for a in inside for b in outside])
    assert share_above(inside, outside).mean() == pytest.approx(pairs)
    assert np.isnan(share_above(np.array([np.nan]), outside)).all()


def test_an_exam_misses_a_plane_only_if_none_of_its_images_is_called_so() -> None:
    brain, thorax = 1, 2
    labels = np.array([brain, brain, brain, thorax])
    called = np.array([brain, thorax, thorax, thorax])
    patients = np.array([0, 0, 1, 1])
    figures = exam_figures(labels, called, np.ones(4, bool), patients)
    assert (figures["brain"].false_missing.value, figures["brain"].false_missing.patients) == (0.5, 2)
    assert (figures["thorax"].false_present.value, figures["thorax"].false_present.patients) == (1.0, 1)
    assert figures["femur"].false_missing.value is None
    held_back = exam_figures(labels, called, np.array([False, True, True, True]), patients)
    assert held_back["brain"].false_missing.value == 1.0
    assert "other" not in figures


def test_the_rule_takes_the_thriftiest_model_within_the_margin() -> None:
    best = Candidate("best", 0.95, 20.0, 0.2)
    near = Candidate("near", 0.94, 5.0, 0.05)
    bad = Candidate("bad", 0.80, 1.0, 0.01)
    worse = Candidate("worse", 0.93, 6.0, 0.06)
    placed = {each.candidate.name: each for each in pareto([best, near, bad, worse], 0.02)}
    assert [name for name, each in placed.items() if each.chosen] == ["near"]
    assert [name for name, each in placed.items() if each.dominated] == ["worse"]
