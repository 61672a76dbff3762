from __future__ import annotations

import re
from pathlib import Path

import msgspec

from fetalmlops.domain.models.bundle import bundle_digest
from fetalmlops.domain.models.card import NOT_AVAILABLE, model_card
from fetalmlops.domain.models.evidence import (
    DataEntry,
    DriftReference,
    Estimate,
    Evidence,
    PrecisionGate,
    SelectiveThreshold,
    UseStatement,
)
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Manifest, decode_manifest, encode_manifest
from fetalmlops.platform.inference.bundles import bundled_files

DOCUMENT = Path(__file__).parents[4] / "docs" / "model-card.md"
FULL = Evidence(
    intended_use=UseStatement(
        text="sorting images", population="second trimester", forbidden=["diagnosis"], digest="e" * 64
    ),
    data=[DataEntry(name="planes-a", role="training", digest="a" * 64, images=10, patients=4, licence="CC BY 4.0")],
    code_digest="b" * 64,
    recipe_digest="c" * 64,
    thresholds={
        "planes": SelectiveThreshold(
            threshold=0.8, target=0.05, bound=0.04, errors=1, patients=120, images=300, coverage=0.9, met=True
        )
    },
    false_alarms={"site-a": 0.011},
    figures={"test": {"accuracy": Estimate(value=0.91, low=0.88, high=0.94, images=300, patients=100)}},
    faithfulness={"insertion minus deletion": 0.25},
    drift=DriftReference(levels=[0.5], quality={"contrast": [0.2]}, class_prior={"brain": 0.25}, images=50),
    gates={"f32": PrecisionGate(images=40, agreement=1.0, largest_difference=0.0, passed=True)},
    serving_joules=0.083,
    adapted_from="d" * 64,
)  # fmt: skip


def test_the_document_is_the_card_of_the_packaged_bundle() -> None:
    files = bundled_files()
    digest = bundle_digest(files[MANIFEST_NAME])
    expected = model_card(decode_manifest(files[MANIFEST_NAME]), digest)
    assert DOCUMENT.read_text("utf-8") == expected, "run fetalmlops bundle card demonstration --out docs/model-card.md"


def test_the_six_domains_stand_in_their_order(manifest: Manifest) -> None:
    titles = re.findall(r"^## (\d)\. (.+)$", model_card(manifest), re.MULTILINE)
    assert [number for number, _ in titles] == ["1", "2", "3", "4", "5", "6"]
    assert [title.split()[0] for _, title in titles] == [
        "Task", "Dataset", "Model", "Calibration", "Explanation", "Post-market",
    ]  # fmt: skip


def test_what_the_manifest_lacks_is_said_to_be_not_available(manifest: Manifest) -> None:
    bare = model_card(manifest)
    assert f"Intended use: {NOT_AVAILABLE}" in bare
    assert f"Drift references: {NOT_AVAILABLE}" in bare
    full = model_card(msgspec.structs.replace(manifest, evidence=FULL))
    assert full.count(NOT_AVAILABLE) < bare.count(NOT_AVAILABLE) / 2


def test_every_part_of_the_evidence_is_in_the_card(manifest: Manifest) -> None:
    full = model_card(msgspec.structs.replace(manifest, evidence=FULL))
    for said in ("sorting images", "second trimester", "diagnosis", "eeee", "planes-a", "bbbb", "cccc",
                 "1 of 120", "site-a 0.011", "0.88 to 0.94", "0.25", "contrast", "brain 0.250", "passed", "0.083 J (modelled)",
                 "dddd"):  # fmt: skip
        assert said in full


def test_evidence_survives_the_manifests_bytes(manifest: Manifest) -> None:
    from fetalmlops.domain.models.manifest import FileEntry

    names = ("model.onnx", "weights.safetensors", "ood.safetensors", "reference.safetensors", "card.md")
    files = {name: FileEntry(sha256="0" * 64, size=1, media_type="x") for name in names}
    written = msgspec.structs.replace(manifest, evidence=FULL, files=files)
    assert decode_manifest(encode_manifest(written)) == written


def test_a_cell_cannot_break_the_table(manifest: Manifest) -> None:
    odd = msgspec.structs.replace(manifest, metrics={"a | b": {"accuracy": 0.5}})
    assert "| a \\| b | accuracy |" in model_card(odd)
