"""What trainings have taken, read from where they leave it."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.domain.models.bundle import bundle_digest, seal_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Energy, decode_manifest
from fetalmlops.platform.energy.trainings import PURPOSE, bundled_trainings, recorded_trainings
from fetalmlops.platform.inference.bundles import PACKAGED, bundled_files, save_bundle

ALWAYS = (date(2020, 1, 1), date(2999, 1, 1))


def own_bundle(version: str, energy: Energy) -> dict[str, bytes]:
    files = bundled_files()
    manifest = decode_manifest(files.pop(MANIFEST_NAME))
    provenance = msgspec.structs.replace(manifest.provenance, energy=energy)
    return seal_bundle(msgspec.structs.replace(manifest, name="own", version=version, provenance=provenance), files)


def test_bundles_of_the_state_folder_tell_of_their_training_and_the_packages_ran_elsewhere(tmp_path: Path) -> None:
    save_bundle(tmp_path, own_bundle("1.0.0", Energy(method="modelled", kwh=2.0, co2e_g=1.0, tool="a tool")))
    save_bundle(tmp_path, own_bundle("2.0.0", Energy(method="unknown")))
    first, second, *packaged = [training for _, training in bundled_trainings(tmp_path, *ALWAYS)]
    assert (first.name, first.kwh, first.method, first.source) == ("own 1.0.0", 2.0, "modelled", "a tool")
    assert (second.kwh, second.method) == (None, EnergyMethod.UNKNOWN)
    assert first.here
    assert [training.here for training in packaged] == [False] * len(PACKAGED)


def test_only_bundles_of_the_time_asked_for_are_told_of(tmp_path: Path) -> None:
    folder = save_bundle(tmp_path, own_bundle("1.0.0", Energy(method="unknown")))
    day = datetime(2025, 6, 1, 12, tzinfo=UTC)
    os.utime(folder / MANIFEST_NAME, (day.timestamp(), day.timestamp()))

    def own(first: date, last: date) -> int:
        return sum(training.here for _, training in bundled_trainings(tmp_path, first, last))

    assert own(day.date(), day.date()) == 1
    assert own(day.date() + timedelta(days=1), ALWAYS[1]) == 0


def test_a_broken_bundle_is_left_out(tmp_path: Path) -> None:
    folder = save_bundle(tmp_path, own_bundle("1.0.0", Energy(method="unknown")))
    (folder / MANIFEST_NAME).write_bytes(b"{}")
    assert all(not training.here for _, training in bundled_trainings(tmp_path, *ALWAYS))


def test_without_a_record_there_are_no_trainings(tmp_path: Path) -> None:
    assert list(recorded_trainings(tmp_path, *ALWAYS)) == []


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(b"no database, but long enough to be taken for one" * 99)
    with pytest.raises(FetalMLOpsError, match=r"Expected the record of trainings in .*mlflow\.db"):
        list(recorded_trainings(tmp_path, *ALWAYS))


@pytest.mark.torch
def test_mlflows_record_is_read_as_it_lies(tmp_path: Path) -> None:
    from fetalmlops.training.tracking import open_record

    for name, purpose, kwh in (("one", "training", 0.5), ("two", "search", 0.25), ("three", "search", None)):
        record = open_record(tmp_path, name)
        record.set({}, {PURPOSE: purpose, "energy": "modelled: a tool", "bundle": f"digest of {name}"})
        record.figures({"seconds": 1.0} | ({"energy_kwh": kwh} if kwh else {}))
        record.end()
    found = list(recorded_trainings(tmp_path, *ALWAYS))
    assert [(digest, each.name, each.purpose, each.kwh, each.method, each.source) for digest, each in found] == [
        ("digest of one", "one", "training", 0.5, "modelled", "a tool"),
        ("digest of two", "two", "search", 0.25, "modelled", "a tool"),
        ("digest of three", "three", "search", None, "modelled", "a tool"),
    ]
    assert list(recorded_trainings(tmp_path, ALWAYS[0], ALWAYS[0])) == []


def test_a_bundle_and_its_record_have_one_digest(tmp_path: Path) -> None:
    files = own_bundle("1.0.0", Energy(method="modelled", kwh=1.0))
    save_bundle(tmp_path, files)
    assert bundle_digest(files[MANIFEST_NAME]) in {digest for digest, _ in bundled_trainings(tmp_path, *ALWAYS)}
