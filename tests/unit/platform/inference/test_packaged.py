from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.domain.models.bundle import Bundle, load_bundle
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.classify import classify, explain
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.platform.inference.bundles import DEMONSTRATION, FETAL_PLANES, PACKAGED, bundled_files, packaged_bundle
from fetalmlops.platform.settings import InferenceSettings, NormalizerSettings


@pytest.fixture(scope="module")
def real() -> Bundle:
    """The bundle for real images."""
    return load_bundle(packaged_bundle(FETAL_PLANES))


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_bundle_serves_by_the_default_settings(name: str) -> None:
    bundle = load_bundle(packaged_bundle(name))
    assert bundle.manifest.release_status is ReleaseStatus.DEMONSTRATION
    assert bundle.manifest.pipeline.digest == find_pipeline(bundle.manifest.pipeline.name).digest
    assert bundle.manifest.pipeline.name in NormalizerSettings().pipelines
    assert InferenceSettings(bundle=name).bundle == name
    for precision in bundle.manifest.variants:
        if precision != "bf16" or supports_bf16():
            tolerance = bundle.manifest.variants[precision].tolerance
            assert check_engine(bundle, OpenVinoEngine(bundle, precision=precision)) <= tolerance


def test_the_phantoms_bundle_is_what_an_installation_starts_with() -> None:
    assert InferenceSettings().bundle == DEMONSTRATION
    assert bundled_files() == packaged_bundle(DEMONSTRATION)


def test_a_bundle_that_the_package_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(SettingsError, match="demonstration, fetal-planes"):
        packaged_bundle("../domain")


def test_the_bundle_for_real_images_is_small_and_names_whose_work_it_is(real: Bundle) -> None:
    assert sum(map(len, real.files.values())) < 5_000_000
    notice = real.files["notice.md"].decode()
    assert all(word in notice for word in ("SonoNet", "Apache License 2.0", "FETAL_PLANES_DB", "HC18", "CC BY 4.0"))
    assert {source.name for source in real.manifest.sources} == {"SonoNet-16", "FETAL_PLANES_DB", "HC18"}


def test_its_card_says_how_little_it_has_seen_and_every_figure(real: Bundle) -> None:
    card = real.files[real.manifest.card].decode()
    judged = real.manifest.metrics["FETAL_PLANES_DB (left-out patients)"]
    assert f"{judged['images']:.0f} real images of {judged['patients']:.0f} patients" in card
    assert "far\ntoo little" in card
    for figures in real.manifest.metrics.values():
        for name, value in figures.items():
            assert f"| {name} | {value:.4g} |" in card


def test_it_explains_an_answer_by_shares_that_add_up_to_the_logit(real: Bundle) -> None:
    engine = OpenVinoEngine(real)
    prepared = prepare(real.reference.frames, real.manifest.input)
    output = engine.infer(prepared.batch)
    np.testing.assert_allclose(output.maps.mean(axis=(2, 3)), output.logits, atol=1e-3)
    result = classify(real, output, prepared.contrast, prepared.sharpness)
    grid = explain(real, output, result, *real.reference.frames.shape[1:])
    assert grid.shape == (72, 56)
    assert np.ptp(grid) > 0


def test_it_calls_noise_out_of_scope_and_accepts_no_brain_view(real: Bundle) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 300, 400), dtype=np.uint8)
    output = OpenVinoEngine(real).infer(prepare(noise, real.manifest.input).batch)
    assert (real.ood.score(output.features) > real.manifest.decision.ood_limit).all()
    assert real.manifest.decision.accept_brain == 1
