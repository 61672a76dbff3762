"""adapt and accept on a simulated site, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.platform.inference.bundles import list_bundles, open_bundle
from support.site import write_site

runner = CliRunner()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_site(folder, 120)
    write_site(folder, 8, planes=[Plane.BRAIN], name="one")
    write_site(folder, 12, name="few")
    write_site(folder, 24, name="old", seed=1)
    return folder


def invoke(home: Path, *arguments: object) -> tuple[int, str]:
    result = runner.invoke(app, ["--home", str(home), *map(str, arguments)])
    return result.exit_code, result.output


def adapt(home: Path, labels: str, level: str, *more: object) -> tuple[int, str]:
    return invoke(home, "adapt", "--bundle", "demonstration", "--labels", labels, "--level", level, *more)


def test_calibrating_makes_a_new_bundle_that_says_where_it_is_from(home: Path) -> None:
    code, said = adapt(home, "site", "calibrate", "--name", "tuned", "--risk", "0.1", "--keep", "old")
    assert code == 0, said
    assert "the site served so far, new less old on 24 images of 12 other patients" in said
    old, new = open_bundle(home, "demonstration"), open_bundle(home, "tuned-1.0.0")
    evidence = new.manifest.evidence
    assert evidence.adapted_from == old.digest
    added = evidence.data[len(old.manifest.evidence.data) :]
    assert [(entry.name, entry.patients) for entry in added] == [("site", 60), ("old", 12)]
    assert evidence.figures["site, less the bundle before"]["negative_log_likelihood_difference"].patients == 60
    assert evidence.drift is not None
    assert evidence.drift.class_prior["brain"] == pytest.approx(1 / 6, abs=1e-6)
    assert evidence.drift_file in new.files
    assert evidence.thresholds["planes"].patients <= 60
    assert new.files["model.onnx"] == old.files["model.onnx"]
    assert invoke(home, "bundle", "verify", "tuned-1.0.0")[0] == 0
    # What it was adapted to cannot prove what it is worth.
    code, said = invoke(home, "accept", "--bundle", "tuned-1.0.0", "--labels", "site")
    assert code == 1
    assert "no part in making" in said
    # Nor can the same images in a data set of another digest.
    code, said = invoke(home, "accept", "--bundle", "tuned-1.0.0", "--labels", "few")
    assert code == 1
    assert "12 of 12 images had a part" in " ".join(said.split())


def test_adapting_by_images_of_the_bundle_itself_warns(home: Path) -> None:
    code, said = adapt(home, "few", "calibrate", "--name", "once", "--risk", "0.45")
    assert code == 0, said
    assert "warning" not in said
    code, said = invoke(
        home, "adapt", "--bundle", "once-1.0.0", "--labels", "few", "--level", "calibrate", "--name", "twice", "--risk", "0.45"
    )  # fmt: skip
    assert code == 0, said
    assert "warning: 12 of 12 images had a part" in said


@pytest.mark.parametrize("level", ["head", "finetune"])
def test_one_class_can_change_no_network(home: Path, level: str) -> None:
    found, said = adapt(home, "one", level, "--name", "never")
    assert found == 1
    assert "one-class data can be reported only" in " ".join(said.split())
    assert not any(name.startswith("never") for name in list_bundles(home))


def test_fine_tuning_without_its_packages_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fetalmlops.cli.train._PARTS", ("no_package_of_this_name",))
    code, said = adapt(home, "site", "finetune", "--name", "never", "--risk", "0.1")
    assert code == 78
    assert 'pip install "fetalmlops[train]"' in " ".join(said.split())
    assert not any(name.startswith("never") for name in list_bundles(home))


def test_one_class_is_reported_when_calibrating(home: Path) -> None:
    code, said = adapt(home, "one", "calibrate", "--name", "never")
    assert code == 0
    assert "reported only" in said
    assert not any(name.startswith("never") for name in list_bundles(home))


def test_too_few_patients_are_told_how_many_are_needed(home: Path) -> None:
    code, said = adapt(home, "few", "calibrate", "--name", "never")
    assert code == 1
    assert "Expected 59 patients" in said


def test_acceptance_that_cannot_be_judged_is_no_pass(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "accept.html"
    code, said = invoke(home, "accept", "--bundle", "demonstration", "--labels", "few", "--report", page)
    assert code == 1
    assert "patients are needed" in said
    assert "acceptance test: not judged" in said
    html = page.read_text("utf-8")
    assert "Signatures" in html
    assert "none of 12 images" in html
    assert open_bundle(home, "demonstration").digest in html
    assert "alpha" in html
    assert "http" not in html
