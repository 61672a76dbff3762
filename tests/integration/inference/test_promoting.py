"""The commands by which a person changes what serves: gates, records, refusals, and what they say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.events import AuditRecorded, ModelPromoted
from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.contracts.topics import AUDIT_RECORDED, MODEL_PROMOTED
from fetalmlops.domain.models.evidence import Evidence
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.inference.bundles import save_bundle
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.objects import open_objects
from support.promotions import resealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from typer.testing import Result

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.settings import Settings

PERSON = ("--account", "a.person", "--reason", "for the test")
NO_WAIT = ("--wait", "0")


@pytest.fixture
def home(embedded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own, with an object store of its own, at the session's broker."""
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS", embedded.kafka.bootstrap_servers)
    monkeypatch.setenv("FETALMLOPS_INFERENCE__PORT", "1")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, ["--home", str(home), *words], env={"COLUMNS": "200"})

    return invoke


def stored(home: Path, bundle: Bundle, **changes: Any) -> Bundle:
    made = resealed(bundle, **changes)
    save_bundle(home, made.files)
    return made


def candidate(home: Path, bundle: Bundle, version: str) -> Bundle:
    """Store a candidate whose manifest has no figures."""
    return stored(home, bundle, version=version, release_status=ReleaseStatus.CANDIDATE, evidence=Evidence())


def serving(run: Callable[..., Result]) -> dict[str, str]:
    """Role to version, by record."""
    return {row["role"]: row["version"] for row in json.loads(run("models", "--json").output)}


async def collect(found: AsyncIterator[tuple[object, Any]]) -> list[Any]:
    return [event async for _, event in found]


def audits(embedded: Settings, bundle: Bundle) -> list[AuditRecorded]:
    every = asyncio.run(collect(read_events(embedded.kafka, AUDIT_RECORDED, AuditRecorded)))
    return [entry for entry in every if entry.subject == bundle.digest]


def promotions(embedded: Settings, bundle: Bundle) -> list[ModelPromoted]:
    every = asyncio.run(collect(read_events(embedded.kafka, MODEL_PROMOTED, ModelPromoted)))
    return [event for event in every if event.bundle_digest == bundle.digest]


def report_on(
    place: Path, bundle: Bundle, use_digest: str, *failed: str, digest: str = "", split: str = "test"
) -> Path:
    """A report as `evaluate` writes it, of which a promotion reads these parts."""
    names = (
        "accuracy.macro_f1",
        "accuracy.plane_recall.femur",
        "calibration.ece",
        "selective.risk",
        "scope.false_alarms",
    )
    gates = [
        {
            "name": name,
            "status": "failed" if name in failed else "passed",
            "limit": 0.9,
            "value": 0.95,
            "bound": 0.93,
            "images": 500,
            "patients": 100,
            "why": "made for a test",
        }
        for name in names
    ]
    report = {
        "bundle": {"digest": digest or bundle.digest},
        "data": {"split": split},
        "intended_use": {"digest": use_digest},
        "gates": gates,
    }
    place.write_bytes(msgspec.json.encode(report))
    return place


def test_promotion_and_rollback_are_recorded(
    embedded: Settings, home: Path, run: Callable[..., Result], bundle: Bundle
) -> None:
    first, second = (stored(home, bundle, version=version) for version in ("7.0.0", "7.0.1"))
    for each in (first, second):
        done = run("promote", f"demonstration-{each.manifest.version}", *PERSON, *NO_WAIT)
        assert done.exit_code == 0, done.output
    assert serving(run) == {"champion": "7.0.1"}
    (event,) = promotions(embedded, second)
    assert (event.actor, event.reason, event.replaces) == ("a.person", "for the test", first.digest)
    (entry,) = audits(embedded, second)
    assert (entry.actor, entry.action, entry.outcome, entry.reason) == (
        "a.person",
        "promote-model",
        "granted",
        "for the test",
    )
    assert (entry.details["role"], entry.details["replaces"]) == ("champion", first.digest)

    assert run("rollback", *PERSON, "--dry-run").exit_code == 0
    assert serving(run) == {"champion": "7.0.1"}
    done = run("rollback", *PERSON, *NO_WAIT)
    assert done.exit_code == 0, done.output
    assert f"{first.digest[:12]} is champion by record, in place of demonstration 7.0.1" in " ".join(
        done.output.split()
    )
    assert serving(run) == {"champion": "7.0.0"}
    assert [each.rollback for each in promotions(embedded, first)] == [False, True]
    assert [each.action for each in audits(embedded, first)] == ["promote-model", "roll-back-model"]
    done = run("rollback", *PERSON, *NO_WAIT)
    assert done.exit_code == 1
    assert "Expected a champion before the present one" in done.stderr
    deeds = [(row["deed"], row["version"]) for row in json.loads(run("models", "history", "--json").output)]
    assert deeds == [("promotion", "7.0.0"), ("promotion", "7.0.1"), ("rollback", "7.0.0")]


def test_a_bundle_is_found_by_folder_and_by_the_digest_of_the_store(
    embedded: Settings, home: Path, run: Callable[..., Result], bundle: Bundle
) -> None:
    made = stored(home, bundle, version="7.1.0")
    folder = home / "bundles" / "demonstration-7.1.0"
    assert run("promote", str(folder), *PERSON, *NO_WAIT).exit_code == 0
    folder.rename(home / "elsewhere")
    done = run("promote", made.digest[:8], *PERSON, *NO_WAIT)
    assert done.exit_code == 0, done.output
    assert len(promotions(embedded, made)) == 2
    for unknown in ("no-such", made.digest[:7], "0" * 64):
        done = run("promote", unknown, *PERSON, *NO_WAIT)
        assert done.exit_code == 78
        assert "one stored bundle's digest" in done.stderr


def test_a_candidate_needs_its_floors_and_then_no_demonstration_replaces_it(
    embedded: Settings, home: Path, run: Callable[..., Result], bundle: Bundle, tmp_path: Path
) -> None:
    wanted = candidate(home, bundle, "7.2.0")
    use_digest = open_intended_use(embedded)[1]
    name, report = "demonstration-7.2.0", tmp_path / "report.json"
    assert run("promote", "demonstration", *PERSON, *NO_WAIT).exit_code == 0

    refusals = [
        ((), "accuracy.macro_f1"),
        (("calibration.ece",), "calibration.ece"),
    ]
    for failed, missed in refusals:
        more = ("--evaluation", str(report_on(report, wanted, use_digest, *failed))) if failed else ()
        done = run("promote", name, *PERSON, *NO_WAIT, *more)
        assert done.exit_code == 1
        assert missed in done.stderr
        entry = audits(embedded, wanted)[-1]
        assert (entry.outcome, entry.details["missed"]) == ("refused", missed)
    for other in ({"digest": "0" * 64}, {"split": "validation"}):
        evaluation = report_on(report, wanted, use_digest, **other)
        done = run("promote", name, *PERSON, *NO_WAIT, "--evaluation", str(evaluation))
        assert (done.exit_code, "evaluate it again" in done.stderr) == (1, True)
    done = run("promote", name, *PERSON, *NO_WAIT, "--evaluation", str(report_on(report, wanted, "0" * 64)))
    assert "intended use" in done.stderr
    assert promotions(embedded, wanted) == []

    done = run("promote", name, *PERSON, *NO_WAIT, "--evaluation", str(report_on(report, wanted, use_digest)))
    assert done.exit_code == 0, done.output
    assert serving(run) == {"champion": "7.2.0"}
    for refused in (("promote", "demonstration"), ("rollback",)):
        done = run(*refused, *PERSON, *NO_WAIT)
        assert done.exit_code == 1
        assert "release-status" in done.stderr
    assert serving(run) == {"champion": "7.2.0"}


def test_a_shadow_needs_no_floors_and_ends_when_a_person_says_so(
    embedded: Settings, home: Path, run: Callable[..., Result], bundle: Bundle
) -> None:
    wanted = candidate(home, bundle, "7.3.0")
    done = run("promote", "demonstration-7.3.0", "--role", "shadow", *PERSON)
    assert done.exit_code == 0, done.output
    assert "set inference.shadow" in " ".join(done.output.split())
    assert serving(run) == {"shadow": "7.3.0"}
    assert run("retire", *PERSON).exit_code == 0
    assert serving(run) == {}
    assert [each.retired for each in promotions(embedded, wanted)] == [False, True]
    assert [each.action for each in audits(embedded, wanted)] == ["promote-model", "retire-model"]
    done = run("retire", *PERSON)
    assert (done.exit_code, "Expected a shadow to end" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "person",
    [
        ("--account", "installation", "--reason", "r"),
        ("--account", "two words", "--reason", "r"),
        ("--account", "a.person", "--reason", " "),
        ("--account", "a.person"),
        ("--reason", "r"),
    ],
)
def test_nothing_happens_without_a_person_and_a_reason(run: Callable[..., Result], person: tuple[str, ...]) -> None:
    for command in (("promote", "demonstration"), ("rollback",), ("retire",)):
        assert run(*command, *person).exit_code == 2


def test_a_bundle_that_cannot_be_served_is_refused_before_the_record_of_it(
    embedded: Settings, home: Path, run: Callable[..., Result], bundle: Bundle
) -> None:
    broken = stored(home, bundle, files={"model.onnx": b"no network"}, version="7.4.0")
    done = run("promote", "demonstration-7.4.0", *PERSON, *NO_WAIT)
    assert (done.exit_code, "engine" in done.stderr) == (1, True)
    assert audits(embedded, broken)[0].outcome == "refused"
    place = home / "bundles" / "demonstration-7.4.0" / "card.md"
    place.write_text("another card")
    done = run("promote", "demonstration-7.4.0", *PERSON, *NO_WAIT)
    assert (done.exit_code, "card.md with the manifest's digest" in done.stderr) == (1, True)
    assert not list(open_objects(embedded.model_copy(update={"home": home})).walk("clean/bundles"))


def test_without_a_broker_nothing_is_promoted(
    home: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("fetalmlops.platform.audit.record.__kwdefaults__", {"give_up_s": 1.0})
    done = run("promote", "demonstration", *PERSON, *NO_WAIT)
    assert (done.exit_code, "Expected the broker" in done.stderr) == (1, True)
    assert serving(run) == {}


def test_a_service_that_does_not_answer_is_told_apart_from_one_that_serves_another(
    home: Path, run: Callable[..., Result]
) -> None:
    done = run("promote", "demonstration", *PERSON, "--wait", "0.2")
    assert done.exit_code == 0
    assert "Whether it serves is not known" in " ".join(done.output.split())
