"""A bundle whose network gives logits alone: everything else is not available, from the engine to the answer."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES, Decision, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.bundle import Bundle, Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.classify import classify, explain
from fetalmlops.domain.models.engine import OUTPUT_NAMES, EngineOutput, absent_output, join_outputs
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Manifest, Precision, decode_manifest

LACKING = {"brain_planes": [], "outputs": ("logits",), "embedding_length": 0, "ood": "", "weights": ""}


def logits_only(logits: np.ndarray) -> EngineOutput:
    return EngineOutput(
        logits=logits, **{name: absent_output(name, len(logits)) for name in OUTPUT_NAMES if name != "logits"}
    )


@pytest.fixture
def bare(manifest: Manifest) -> Bundle:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 80), dtype=np.uint8)
    reference = Reference(frames, np.full((2, 6), 1 / 6, np.float32), np.empty((2, 0), np.float32))
    contents = {"model.onnx": b"a network", "reference.safetensors": reference.to_bytes(), "card.md": b"# Card"}
    return load_bundle(seal_bundle(msgspec.structs.replace(manifest, **LACKING), contents))


class Engine:
    name = "still"
    precision = Precision.F32

    def infer(self, batch: np.ndarray) -> EngineOutput:
        return logits_only(np.zeros((len(batch), 6), np.float32))


def test_its_engine_is_checked_by_what_there_is(bare: Bundle) -> None:
    assert check_engine(bare, Engine()) < 1e-6


def test_an_engine_that_gives_more_than_the_manifest_says_is_refused(bare: Bundle) -> None:
    class More(Engine):
        def infer(self, batch: np.ndarray) -> EngineOutput:
            output = super().infer(batch)
            return EngineOutput(
                output.logits, output.brain_logits, np.zeros((2, 4), np.float32), output.features, output.maps
            )

    with pytest.raises(ContractError, match="shapes"):
        check_engine(bare, More())


def test_a_result_holds_nothing_where_the_bundle_gives_nothing(bare: Bundle) -> None:
    logits = np.zeros((3, 6), np.float32)
    logits[:, PLANES.index(Plane.BRAIN)] = 9
    output = join_outputs([logits_only(logits[:1]), logits_only(logits[1:])])
    result = classify(bare, output, np.full(3, 0.2), np.full(3, 0.2))
    assert (result.plane, result.verdict.decision) == (Plane.BRAIN, Decision.ACCEPT)
    assert (result.brain_plane, result.ood_score, result.frame_ood) == (None, None, None)
    assert result.brain_probabilities.size == 0
    assert explain(bare, output, result, 64, 80) is None
    assert bare.manifest.lacking == ["brain_planes", "ood_score", "embedding", "explanation"]


@pytest.mark.parametrize(
    "changed",
    [
        {"outputs": ()},
        {"outputs": ("logits", "brain_logits")},
        {"outputs": ("logits", "embedding")},
        {"outputs": ("logits", "something")},
        {"embedding_length": 4},
        {"ood": "ood.safetensors"},
    ],
)
def test_a_manifest_that_disagrees_with_its_outputs_is_refused(bare: Bundle, changed: dict[str, object]) -> None:
    files = {name: data for name, data in bare.files.items() if name != MANIFEST_NAME}
    files["ood.safetensors"] = b""
    with pytest.raises(ContractError, match="outputs"):
        decode_manifest(seal_bundle(msgspec.structs.replace(bare.manifest, **changed), files)[MANIFEST_NAME])
