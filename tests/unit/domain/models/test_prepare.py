from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalmlops.domain.models.manifest import Fit, InputSpec
from fetalmlops.domain.models.prepare import place, prepare

SPEC = InputSpec(rows=128, columns=160)


@given(st.integers(16, 512), st.integers(16, 512))
def test_a_padded_frame_fills_one_axis_and_keeps_its_aspect(rows: int, columns: int) -> None:
    placed = place(rows, columns, SPEC)
    assert placed.rows == SPEC.rows or placed.columns == SPEC.columns
    assert placed.top + placed.rows <= SPEC.rows
    assert placed.left + placed.columns <= SPEC.columns
    scale = min(SPEC.rows / rows, SPEC.columns / columns)
    assert abs(placed.rows - rows * scale) <= 0.5
    assert abs(placed.columns - columns * scale) <= 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 512), st.integers(16, 512), st.sampled_from([Fit.PAD, Fit.STRETCH]), st.integers(0, 2**32))
def test_any_size_is_standardised_over_its_content(rows: int, columns: int, fit: Fit, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (1, rows, columns), dtype=np.uint8)
    spec = InputSpec(rows=64, columns=80, fit=fit)
    prepared = prepare(frame, spec)
    placed = place(rows, columns, spec)
    content = prepared.batch[0, placed.top : placed.top + placed.rows, placed.left : placed.left + placed.columns]
    assert prepared.batch.shape == (1, 64, 80)
    assert prepared.batch.dtype == np.float32
    assert abs(float(content.mean())) < 1e-3
    assert abs(float(content.std()) - 1) < 1e-3
    assert 0 <= prepared.contrast[0] <= 1
    assert 0 <= prepared.sharpness[0] <= 1


def test_brightness_and_gain_change_nothing() -> None:
    frame = np.random.default_rng(1).integers(20, 100, (1, 128, 160), dtype=np.uint8)
    brighter = frame * np.uint8(2) + np.uint8(30)
    np.testing.assert_allclose(prepare(brighter, SPEC).batch, prepare(frame, SPEC).batch, atol=1e-4)


def test_what_lies_beside_the_content_is_black() -> None:
    frame = np.full((1, 100, 100), 0, np.uint8)
    frame[:, 20:80, 20:80] = 200
    batch = prepare(frame, SPEC).batch[0]
    beside = np.concatenate([batch[:, :16], batch[:, 144:]], axis=1)
    np.testing.assert_allclose(beside, batch.min(), rtol=1e-6)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_frame_stays_finite(level: int) -> None:
    prepared = prepare(np.full((2, 300, 400), level, np.uint8), SPEC)
    assert np.isfinite(prepared.batch).all()
    assert prepared.contrast.tolist() == [0, 0]


def test_each_frame_is_prepared_alone() -> None:
    frames = np.random.default_rng(2).integers(0, 256, (3, 200, 300), dtype=np.uint8)
    together = prepare(frames, SPEC)
    for index in range(3):
        np.testing.assert_array_equal(prepare(frames[index : index + 1], SPEC).batch[0], together.batch[index])


def test_the_quick_resize_lies_close_to_exact_area_means() -> None:
    coarse = np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)
    frame = cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_LINEAR)
    spec = InputSpec(rows=128, columns=128)
    exact = cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float64)
    exact = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(prepare(frame[None], spec).batch[0], exact, atol=0.05)
