"""A whole training: bundle, record, refusals; needs the train extra."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("mlflow", reason="training needs the train extra")

from fetalmlops.domain.contracts.planes import ReleaseStatus  # noqa: E402
from fetalmlops.domain.errors import ContractError  # noqa: E402
from fetalmlops.domain.learning.manifest import Split  # noqa: E402
from fetalmlops.domain.learning.phantoms.scanners import SCANNERS_OF  # noqa: E402
from fetalmlops.domain.learning.provenance import IMAGES_FILE, ROLES, seen_by  # noqa: E402
from fetalmlops.domain.models.bundle import load_bundle  # noqa: E402
from fetalmlops.domain.models.evidence import Evidence  # noqa: E402
from fetalmlops.domain.models.manifest import Precision, SourceEntry  # noqa: E402
from fetalmlops.platform.learning.datasets import Dataset, open_dataset  # noqa: E402
from fetalmlops.platform.learning.intended_use import open_intended_use  # noqa: E402
from fetalmlops.platform.learning.ledger import read_uses  # noqa: E402
from fetalmlops.platform.settings import Settings  # noqa: E402
from fetalmlops.training.baseline import shortcut_macro_f1  # noqa: E402
from fetalmlops.training.code import code_digest  # noqa: E402
from fetalmlops.training.evidence import Judge  # noqa: E402
from fetalmlops.training.places import Place  # noqa: E402
from fetalmlops.training.recipe import RECIPE_FILE, decode_recipe, recipe_digest  # noqa: E402
from fetalmlops.training.serving import serve_phantoms  # noqa: E402
from fetalmlops.training.session import Job, Start, cached, identity, train  # noqa: E402
from support.training import RECIPE, Viewer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

HERE = Place(torch.device("cpu"))


def test_a_training_gives_a_sealed_bundle_that_serves_and_a_record_of_it(phantoms: Path, tmp_path: Path) -> None:
    data = open_dataset(Settings(home=tmp_path), phantoms)
    job, viewer = Job(recipe=RECIPE, data=data, home=tmp_path), Viewer()
    trained = train(job, HERE, viewer)
    bundle = load_bundle(trained.files)
    manifest = bundle.manifest
    assert manifest.release_status is ReleaseStatus.DEMONSTRATION
    assert manifest.provenance.data_digest == data.digest
    assert recipe_digest(RECIPE) in manifest.provenance.recipe
    assert manifest.metrics["test"]["images"] == 20
    assert decode_recipe(bundle.files[RECIPE_FILE]) == RECIPE
    seen = seen_by(bundle, data.manifest, "0" * 64)
    assert seen.complete
    assert seen.images.tolist() == [image.split is not Split.TEST for image in data.manifest.images]
    assert "Worth nothing on patients" in bundle.files[manifest.card].decode()
    assert [source.name for source in manifest.sources] == ["phantoms"]
    (use,) = read_uses(data, "test")
    assert (use.images, use.bundle_digest) == (20, bundle.digest)
    assert not read_uses(data, "train")
    assert any("waited for images" in line for line in viewer.lines)
    assert set(manifest.variants) == {Precision.F32}
    assert manifest.evidence == Evidence(images_file=IMAGES_FILE)
    served = serve_phantoms(trained.files, SCANNERS_OF[Split.TEST], 6, seed=1)
    assert len(served.results) == 6
    assert 0 <= shortcut_macro_f1(cached(job, HERE, viewer), 1) <= 1
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags"))
        parameters = dict(database.execute("select key, value from params"))
        metrics = {name for (name,) in database.execute("select distinct key from metrics")}
    database.close()
    assert (tags["data"], tags["bundle"]) == (data.digest, bundle.digest)
    assert parameters["seed"] == "1"
    assert {"loss", "validation_macro_f1", "test/macro_f1"} <= metrics
    assert not (tmp_path / "mlruns").exists()


def test_a_bundle_carries_the_evidence_of_its_training(phantoms: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    use, digest = open_intended_use(settings)
    data = open_dataset(settings, phantoms)
    job = Job(recipe=RECIPE, data=data, home=tmp_path, judge=Judge(use, digest))
    bundle = load_bundle(train(job, HERE, Viewer()).files)
    manifest, evidence = bundle.manifest, bundle.manifest.evidence
    assert evidence.recipe_digest == recipe_digest(RECIPE)
    assert evidence.code_digest == code_digest()
    assert evidence.intended_use is not None
    assert evidence.intended_use.digest == digest
    # What it was tested by may test it again.
    seen = seen_by(bundle, data.manifest, data.digest)
    assert seen.images.tolist() == [image.split is not Split.TEST for image in data.manifest.images]
    told = [(entry.role, entry.digest, entry.images) for entry in evidence.data]
    counts = {split: len(data.manifest.of(split)) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)}
    assert told == [(role, data.digest, count) for role, count in zip(ROLES.values(), counts.values(), strict=True)]
    test = evidence.figures["test"]
    assert {"accuracy", "macro_f1", "expected_calibration_error", "recall: brain"} <= set(test)
    assert test["accuracy"].value == pytest.approx(manifest.metrics["test"]["accuracy"], abs=1e-5)
    assert test["macro_f1"].value == pytest.approx(manifest.metrics["test"]["macro_f1"], abs=1e-5)
    assert all(each.low <= each.value <= each.high for each in test.values())
    assert set(evidence.false_alarms) <= {*SCANNERS_OF[Split.TEST]}
    assert {"insertion", "deletion", "faithfulness", "energy_in_sector", "similarity_random_weights"} <= set(
        evidence.faithfulness
    )
    assert evidence.serving_joules
    assert 0 < evidence.serving_joules < 60
    assert evidence.drift is not None
    assert evidence.drift.images == counts[Split.VALIDATION]
    # So few patients show nothing: no precision passes, and the card says so.
    assert set(manifest.variants) == {Precision.F32}
    assert "precision.agreement_bound" in evidence.gates["int8"].missed
    card = bundle.files[manifest.card].decode()
    training = f"| phantoms | training | {counts[Split.TRAIN]}"
    assert all(part in card for part in ("faithfulness", "recall: brain", "not in this bundle", training))


def test_what_decides_the_weights_decides_the_identity(phantoms: Path, tmp_path: Path) -> None:
    data = open_dataset(Settings(home=tmp_path), phantoms)
    start = Start(b"weights", SourceEntry(name="weights", licence="", description=""))
    jobs = [
        Job(recipe=RECIPE, data=data, home=tmp_path),
        Job(recipe=msgspec.structs.replace(RECIPE, seed=2), data=data, home=tmp_path),
        Job(recipe=RECIPE, data=Dataset(data.manifest, "0" * 64, data.root), home=tmp_path),
        Job(recipe=RECIPE, data=data, home=tmp_path, start=start),
    ]
    assert len({identity(job) for job in jobs}) == len(jobs)
    assert identity(Job(recipe=RECIPE, data=data, home=tmp_path / "elsewhere", resume=True)) == identity(jobs[0])


@pytest.mark.parametrize("fault", ["no validation", "a patient in two splits"])
def test_data_that_cannot_be_judged_by_are_refused(phantoms: Path, tmp_path: Path, fault: str) -> None:
    data = open_dataset(Settings(home=tmp_path), phantoms)
    images = data.manifest.images
    if fault == "no validation":
        images = [image for image in images if image.split is not Split.VALIDATION]
    else:
        images = [msgspec.structs.replace(image, patient="one") for image in images]
    broken = Dataset(msgspec.structs.replace(data.manifest, images=images), data.digest, data.root)
    with pytest.raises(ContractError, match="validation" if fault == "no validation" else "one split"):
        train(Job(recipe=RECIPE, data=broken, home=tmp_path), HERE, Viewer())
    assert np.size(list(tmp_path.rglob("*.npy"))) == 0
