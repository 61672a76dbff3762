"""Damaged input: refused or clean, never a crash, never a canary. ``make fuzz`` does the same a hundred thousand times."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetalmlops.domain.errors import PermanentError
from support.fuzz import GROWTH_MIB, MIB, Fuzzer
from support.mutants import CANARY, DEEPEST, KINDS, deep_items, make_mutant

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.deid import Deidentifier

SEED = 7
MUTANTS = 2000
TESTS = Path(__file__).parents[1]


def test_two_thousand_mutants_end_clean_or_refused() -> None:
    fuzzer = Fuzzer(SEED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kinds = {fuzzer.judge(number).kind for number in range(MUTANTS)}
    assert fuzzer.account.failures == []
    assert fuzzer.account.total == MUTANTS
    assert kinds == set(KINDS)
    assert fuzzer.account.clean > MUTANTS // 20, "what is always refused proves nothing of what comes out"
    assert sum(fuzzer.account.refused.values()) > MUTANTS // 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH_MIB * MIB


def test_a_leak_and_a_crash_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from fetalmlops.domain.deid import Deidentifier

    fuzzer = Fuzzer(SEED)
    monkeypatch.setattr(Deidentifier, "deidentify_bytes", lambda _self, data, **_: (data, None))
    fuzzer.judge(1)
    monkeypatch.setattr(Deidentifier, "deidentify_bytes", lambda _self, data, **_: {}[data])
    fuzzer.judge(2)
    (_, leak), (_, crash) = fuzzer.account.failures
    assert "a canary in the output" in leak
    assert "crash: KeyError" in crash


def test_the_same_seed_gives_the_same_mutants_in_another_process() -> None:
    code = (
        "import hashlib; from support.mutants import make_mutant;"
        f"print(hashlib.sha256(b''.join(make_mutant({SEED}, n).data for n in range(50))).hexdigest())"
    )
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    assert make_mutant(SEED, 3).data != make_mutant(SEED + 1, 3).data


def test_the_command_judges_over_all_cores_and_names_its_seed() -> None:
    command = [sys.executable, "-m", "support.fuzz", "--count", "60", "--seed", "5"]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("seed 5; 60 mutants")
    assert "failed 0" in done.stdout
    assert "peak resident memory" in done.stdout


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_nesting_a_thousand_deep_is_never_followed(files: ModuleType, deidentifier: Deidentifier, vr: str) -> None:
    sample = files.make_sample()
    sample.attributes[0x0040_0275] = (vr, deep_items(0x0040_0275, vr, DEEPEST))
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    assert CANARY.encode() not in output, "stepped over by its length"
    sample = files.make_sample()
    sample.attributes[0x0018_6011] = (vr, deep_items(0x0018_6011, vr, DEEPEST))
    with pytest.raises(PermanentError, match="nested at most 32 deep"):
        deidentifier.deidentify_bytes(sample.part10())


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(max_size=2000))
def test_noise(files: ModuleType, deidentifier: Deidentifier, noise: bytes) -> None:
    part10 = files.make_sample().part10()
    for data in (noise, part10[:132] + noise, part10[:300] + noise + part10[300:]):
        _clean_or_refused(deidentifier, data)


def _clean_or_refused(deidentifier: Deidentifier, part10: bytes) -> None:
    said, output = "", b""
    try:
        output, _ = deidentifier.deidentify_bytes(part10)
    except PermanentError as error:
        said = "".join(traceback.format_exception(error))
    assert "CANARY" not in said
    assert b"CANARY" not in output
    assert said or pydicom.dcmread(io.BytesIO(output), stop_before_pixels=True)


def test_every_truncation(files: ModuleType, deidentifier: Deidentifier) -> None:
    part10 = files.make_sample().part10()
    for length in np.unique(np.concatenate([np.arange(0, len(part10) - 4800, 3), [len(part10) - 1]])):
        with pytest.raises(PermanentError):
            deidentifier.deidentify_bytes(part10[: int(length)])
