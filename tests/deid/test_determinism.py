"""The same input, key and profile give the same bytes: in any process, run and order."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.deid import PROFILES, Deidentifier
from fetalmlops.domain.simulation import InstanceSpec, Kind, Layout, Photometric, make_instance
from support.deid import codes_for

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey

SPECS = (
    InstanceSpec(study=1),
    InstanceSpec(study=2, transfer_syntax="1.2.840.10008.1.2.4.80"),
    InstanceSpec(study=1, number=2, transfer_syntax="1.2.840.10008.1.2.4.50", frames=2, kind=Kind.ULTRASOUND_MULTIFRAME,
        layout=Layout(photometric=Photometric.YBR_FULL_422)),
    InstanceSpec(study=2, number=3, kind=Kind.COMPREHENSIVE),
)  # fmt: skip
CODE = """
import hashlib, sys
from pathlib import Path
from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import PROFILES, Deidentifier
profile, *places = sys.argv[1:]
engine = Deidentifier(PseudonymKey("tests", bytes(range(32))), PROFILES[profile])
for place in places:
    print(hashlib.sha256(engine.deidentify_bytes(Path(place).read_bytes())[0]).hexdigest())
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("instances")
    made = [folder / f"{number}.dcm" for number in range(len(SPECS))]
    for place, spec in zip(made, SPECS, strict=True):
        place.write_bytes(make_instance(spec).data)
    return made


def digests(engine: Deidentifier, places: list[Path]) -> dict[Path, str]:
    return {place: hashlib.sha256(engine.deidentify_bytes(place.read_bytes())[0]).hexdigest() for place in places}


@pytest.mark.parametrize("name", ["stream", "research", "full-dates"])
def test_the_same_bytes_in_every_process_run_and_order(key: PseudonymKey, places: list[Path], name: str) -> None:
    engine = Deidentifier(key, PROFILES[name])
    first = digests(engine, places)
    assert digests(Deidentifier(key, PROFILES[name]), places[::-1]) == first
    assert len(set(first.values())) == len(places)
    for hash_seed, order in (("1", places), ("2", places[::-1])):
        done = subprocess.run(
            [sys.executable, "-c", CODE, name, *map(str, order)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "TZ": "Pacific/Kiritimati", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert dict(zip(order, done.stdout.split(), strict=True)) == first


def test_the_book_makes_random_codes_repeatable(key: PseudonymKey, places: list[Path]) -> None:
    profile = PROFILES["safe-harbor"]
    codes = codes_for(profile, key, "one book")
    first = digests(Deidentifier(codes, profile), places)
    assert digests(Deidentifier(codes, profile), places[::-1]) == first, "the same book, whatever the order"
    others = digests(Deidentifier(codes_for(profile, key, "another book"), profile), places)
    assert not set(others.values()) & set(first.values())
