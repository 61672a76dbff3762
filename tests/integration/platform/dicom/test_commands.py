"""``fetalmlops send`` and ``fetalmlops simulate`` against a provider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread, uid
from typer.testing import CliRunner, Result

from fetalmlops.cli.main import app
from fetalmlops.domain.simulation import InstanceSpec, Kind, StudySpec, find_scanner, make_instance, plan_study

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Provide = Callable[..., "object"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_reports(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        data = make_instance(InstanceSpec(kind=Kind.BASIC_TEXT, number=number)).data
        (folder / f"{number}.dcm").write_bytes(data)


def test_send_stores_a_folder_and_sums_up(provide: Provide, tmp_path: Path) -> None:
    write_reports(tmp_path / "study", 5)
    provider = provide()
    result = run("send", tmp_path / "study", "--port", provider.port, "--aec", "KEEPER", "--associations", 2)
    assert result.exit_code == 0, result.output
    assert "0x0000 success" in result.output
    assert len(provider.received) == 5


def test_send_takes_host_port_and_ae_title_from_the_settings(provide: Provide, tmp_path: Path, home: Path) -> None:
    write_reports(tmp_path / "study", 1)
    provider = provide()
    home.mkdir()
    (home / "fetalmlops.toml").write_text(
        f'[listener]\nhost = "0.0.0.0"\nport = {provider.port}\nae_title = "KEEPER"\n'
    )
    assert run("send", tmp_path / "study").exit_code == 0
    assert len(provider.received) == 1


def test_send_says_so_when_something_was_not_stored(provide: Provide, tmp_path: Path) -> None:
    write_reports(tmp_path / "study", 2)
    (tmp_path / "study" / "readme.txt").write_text("no DICOM")
    provider = provide()
    result = run("send", tmp_path / "study", "--port", provider.port, "--aec", "KEEPER")
    assert result.exit_code == 1
    assert "readme.txt" in result.output
    assert len(provider.received) == 2


def test_send_speaks_json(provide: Provide, tmp_path: Path) -> None:
    write_reports(tmp_path / "study", 3)
    provider = provide(status=0xA700)
    result = run("send", tmp_path / "study", "--port", provider.port, "--aec", "KEEPER", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [(line["status"], line["stored"]) for line in lines] == [(0xA700, False)] * 3
    assert {line["sop_instance_uid"] for line in lines} == set(provider.received)


def test_send_without_a_peer_fails_quickly(tmp_path: Path) -> None:
    write_reports(tmp_path / "study", 3)
    result = run("send", tmp_path / "study", "--port", 1)
    assert result.exit_code == 1
    assert "no association" in result.output


def test_simulate_sends_the_planned_studies_and_shows_each_instance(provide: Provide) -> None:
    provider = provide()
    result = run(
        "simulate", "--instances", 5, "--studies", 2, "--seed", 7, "--scanner", "gamma", "--cine-frames", 2, "--report",
        "--transfer-syntax", "rle", "--port", provider.port, "--aec", "KEEPER", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    plan = [
        spec
        for seed in (7, 8)
        for spec in plan_study(
            StudySpec(
                seed=seed,
                instances=5,
                scanner=find_scanner("gamma"),
                cine_frames=2,
                transfer_syntax=uid.RLELossless,
                report=True,
            )
        )
    ]
    assert set(provider.received) == {spec.sop_instance_uid for spec in plan}
    lines = {line["sop_instance_uid"]: line for line in map(json.loads, result.stdout.splitlines())}
    for spec in plan:
        line = lines[spec.sop_instance_uid]
        assert provider.received[spec.sop_instance_uid][0] == spec.transfer_syntax
        assert line["plane"] == (spec.plane if spec.is_image else None)
        assert line["frames"] == (spec.frames if spec.is_image else 0)
        assert line["study_instance_uid"] == spec.study_instance_uid


def test_simulate_prints_one_line_an_instance(provide: Provide) -> None:
    provider = provide()
    result = run("simulate", "--instances", 3, "--scanner", "gamma", "--port", provider.port, "--aec", "KEEPER")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("study 1 no")]
    assert len(lines) == 3
    assert all(line.endswith("0x0000 success") for line in lines)


def test_simulate_writes_files_and_sends_nothing(tmp_path: Path) -> None:
    result = run(
        "simulate", "--instances", 2, "--scanner", "gamma", "--out", tmp_path / "made", "--transfer-syntax", "jpeg"
    )
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "made").rglob("*.dcm"))
    assert len(files) == 2
    assert all(dcmread(file).file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit for file in files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scanner", "omega"), "scanner among alpha"),
        (("--transfer-syntax", "1.2.3"), "transfer syntax among"),
        (("--transfer-syntax", "jpeg", "--photometric", "RGB"), "Expected one of"),
    ],
)
def test_simulate_says_what_it_cannot_make(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("simulate", *arguments)
    assert result.exit_code == 1
    assert message in result.output
