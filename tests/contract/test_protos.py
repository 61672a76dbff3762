"""The gRPC contract: linted, unbroken, and the committed code is what the compiler makes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
BASELINE = PROTOS / "baseline.binpb"
BUF = Path(sys.executable).with_name("buf")
GENERATED = Path("fetalmlops/rpc/inference/v1")


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copied_protos(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROTOS, tmp_path / "protos"))


def test_protos_pass_lint() -> None:
    result = buf("lint", PROTOS)
    assert result.returncode == 0, result.stdout


def test_protos_break_nothing_since_the_baseline() -> None:
    result = buf("breaking", PROTOS, "--against", BASELINE)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  bytes sha256 = 5;", "  string sha256 = 5;"),
        ("  // SHA-256 of `pixels`, 32 bytes.\n  bytes sha256 = 5;", ""),
        ("rpc Classify(stream ClassifyRequest)", "rpc Classify(ClassifyRequest)"),
    ],
    ids=["type changed", "field removed", "streaming removed"],
)
def test_a_breaking_change_is_found(copied_protos: Path, old: str, new: str) -> None:
    file = copied_protos / GENERATED / "inference.proto"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    result = buf("breaking", copied_protos, "--against", BASELINE)
    assert result.returncode != 0


def test_an_added_field_is_no_breaking_change(copied_protos: Path) -> None:
    file = copied_protos / GENERATED / "inference.proto"
    text = file.read_text()
    file.write_text(text.replace("  bytes sha256 = 5;", "  bytes sha256 = 5;\n  // New.\n  bool is_new = 6;"))
    assert buf("breaking", copied_protos, "--against", BASELINE).returncode == 0


def test_committed_code_is_current(tmp_path: Path) -> None:
    sources = [str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *sources]
    subprocess.run(command, check=True, timeout=60)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    committed = sorted(
        path.relative_to(ROOT / "services")
        for pattern in ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")
        for path in (ROOT / "services/fetalmlops/rpc").rglob(pattern)
    )
    assert made == committed
    stale = [str(name) for name in made if (tmp_path / name).read_bytes() != (ROOT / "services" / name).read_bytes()]
    assert not stale, f"Stale: {stale}; run make protos"
