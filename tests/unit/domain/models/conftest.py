from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, ReleaseStatus
from fetalmlops.domain.models.bundle import Bundle, Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import (
    Calibration,
    DecisionRule,
    Energy,
    InputSpec,
    Manifest,
    Precision,
    Provenance,
    SourceEntry,
    Variant,
)
from fetalmlops.domain.models.ood import OodReference

FEATURES = 8


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="tiny",
        version="1.2.3",
        release_status=ReleaseStatus.DEMONSTRATION,
        licence="Apache-2.0",
        parameters=10,
        planes=[*PLANES],
        brain_planes=[*BRAIN_PLANES],
        input=InputSpec(rows=32, columns=40),
        calibration=Calibration(),
        decision=DecisionRule(accept=0.8, accept_brain=0.7),
        embedding_length=4,
        variants={Precision.F32: Variant(file="model.onnx", tolerance=0.01)},
        metrics={"phantoms": {"accuracy": 0.5}},
        sources=[SourceEntry(name="phantoms", licence="Apache-2.0", description="simulated")],
        provenance=Provenance(
            recipe="none",
            code="0",
            seed=1,
            data_digest="0" * 64,
            environment={},
            seconds=0.0,
            energy=Energy(method="unknown"),
        ),
    )


@pytest.fixture
def tiny_files(manifest: Manifest) -> dict[str, bytes]:
    uniform = np.full((2, len(PLANES)), 1 / len(PLANES), np.float32)
    brain_uniform = np.full((2, len(BRAIN_PLANES)), 1 / len(BRAIN_PLANES), np.float32)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 80), dtype=np.uint8)
    ood = OodReference(np.zeros((1, FEATURES), np.float32), np.eye(FEATURES, dtype=np.float32), 1.0)
    contents = {
        "model.onnx": b"a network",
        "weights.safetensors": b"weights",
        "ood.safetensors": ood.to_bytes(),
        "reference.safetensors": Reference(frames, uniform, brain_uniform).to_bytes(),
        "card.md": b"# Card",
    }
    return seal_bundle(manifest, contents)


@pytest.fixture
def tiny_bundle(tiny_files: dict[str, bytes]) -> Bundle:
    return load_bundle(tiny_files)
