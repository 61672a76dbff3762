"""On the real images, where they are at hand: the packaged bundle, as it is served, has the figures of its manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetalmlops.domain.learning.provenance import record_of, recorded
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.bundles import FETAL_PLANES, packaged_bundle
from fetalmlops.training.sononet.images import Image, digest, read_fetal_planes, read_hc18

DATA = Path(__file__).parents[5] / "shared" / "data"


@pytest.fixture(scope="module")
def hc18() -> tuple[list[Image], list[Image]]:
    if not (DATA / "hc18").is_dir() or not (DATA / "fetal_planes").is_dir():
        pytest.skip("no images of FETAL_PLANES_DB and HC18 at hand")
    return read_hc18(DATA / "hc18" / "images")


def test_the_packaged_bundle_was_fitted_on_these_images(hc18: tuple[list[Image], list[Image]]) -> None:
    images = [*read_fetal_planes(DATA / "fetal_planes"), *hc18[0]]
    assert digest(images) == load_bundle(packaged_bundle(FETAL_PLANES)).manifest.provenance.data_digest


def test_it_knows_the_images_that_it_was_fitted_on_and_no_others(hc18: tuple[list[Image], list[Image]]) -> None:
    record = recorded(load_bundle(packaged_bundle(FETAL_PLANES)))
    images = [*read_fetal_planes(DATA / "fetal_planes"), *hc18[0]]
    assert record.images == record_of(images).images
    assert not {*record.images} & {*record_of(hc18[1]).images}
    assert not record.complete, "nobody here knows what the published trunk learnt from"


def test_served_it_says_of_held_out_brains_what_its_manifest_says(hc18: tuple[list[Image], list[Image]]) -> None:
    bundle = load_bundle(packaged_bundle(FETAL_PLANES))
    engine = OpenVinoEngine(bundle)
    outputs = [engine.infer(prepare(image.frame[None], bundle.manifest.input).batch) for image in hc18[1]]
    figures = bundle.manifest.metrics["HC18 (held-out patients)"]
    called = np.mean([bundle.manifest.planes[int(output.logits[0].argmax())] == "brain" for output in outputs])
    outside = np.mean([bundle.ood.score(output.features)[0] > 1 for output in outputs])
    assert len(outputs) == figures["images"]
    assert called == pytest.approx(figures["called_brain"], abs=1.5 / len(outputs))
    assert outside == pytest.approx(figures["out_of_scope"], abs=1.5 / len(outputs))
