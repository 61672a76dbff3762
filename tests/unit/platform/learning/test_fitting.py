"""Making bundles of bundles: what becomes of their precisions."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.evidence import PrecisionGate
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Precision, Variant
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.inference.graphs import change_head
from fetalmlops.platform.learning.fitting import resealed

FILE = "model-int8.onnx"


def with_int8(tolerance: float) -> Bundle:
    bundle = load_bundle(bundled_files())
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    contents[FILE] = bundle.network(Precision.F32)
    f32 = bundle.manifest.variants[Precision.F32]
    variants = {Precision.F32: f32, Precision.INT8: Variant(file=FILE, tolerance=tolerance)}
    evidence = msgspec.structs.replace(bundle.manifest.evidence, gates={})
    manifest = msgspec.structs.replace(bundle.manifest, variants=variants, evidence=evidence)
    return load_bundle(seal_bundle(manifest, contents))


def test_a_precision_that_still_holds_goes_along() -> None:
    made = load_bundle(resealed(with_int8(0.1), {"version": "9.0.0"}, {}))
    assert set(made.manifest.variants) == {Precision.F32, Precision.INT8}
    assert FILE in made.files


def test_a_precision_that_no_longer_reproduces_its_reference_is_left_out_with_its_file() -> None:
    made = load_bundle(resealed(with_int8(0.0), {"version": "9.0.0"}, {}))
    assert set(made.manifest.variants) == {Precision.F32}
    assert FILE not in made.files
    assert "int8" not in made.files["card.md"].decode()


def test_a_network_that_no_precision_reads_is_left_out() -> None:
    bundle = with_int8(0.1)
    kept = {Precision.F32: bundle.manifest.variants[Precision.F32]}
    assert FILE not in load_bundle(resealed(bundle, {"variants": kept}, {})).files


@pytest.mark.torch
def test_gates_stay_with_the_network_that_they_judged() -> None:
    pytest.importorskip("onnx", reason="changing a head needs the train extra")
    bundle = with_int8(0.1)
    gate = PrecisionGate(images=9, agreement=1.0, largest_difference=0.0, passed=True)
    evidence = msgspec.structs.replace(bundle.manifest.evidence, gates={"int8": gate})
    same = load_bundle(resealed(bundle, {"evidence": evidence}, {})).manifest
    assert same.evidence.gates == {"int8": gate}
    network, _ = change_head(
        bundle.network(Precision.F32), np.zeros((bundle.manifest.embedding_length, len(PLANES))), np.ones(len(PLANES))
    )
    changes = {"evidence": evidence, "variants": {Precision.F32: bundle.manifest.variants[Precision.F32]}}
    assert load_bundle(resealed(bundle, changes, {"model.onnx": network})).manifest.evidence.gates == {}
