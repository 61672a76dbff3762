"""A book of random codes, shared by processes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.deid.codebook import Codebook

VALUES = [f"1.2.840.{number}" for number in range(200)]


ASK = """
import json, sys
from pathlib import Path
from fetalmlops.platform.deid.codebook import Codebook
book = Codebook(Path(sys.argv[1]))
print(json.dumps({value: book.code("uid", value) for value in json.loads(sys.argv[2])}))
"""


def test_processes_get_the_same_codes(tmp_path: Path) -> None:
    path = tmp_path / "book"
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK, path, json.dumps(values)], stdout=subprocess.PIPE)
        for values in (VALUES, VALUES[::-1])
    ]
    first, second = (json.loads(process.communicate(timeout=60)[0]) for process in asking)
    assert first == second
    assert len(set(first.values())) == len(VALUES)
    assert Codebook(path).code("uid", VALUES[0]) == first[VALUES[0]]
    assert Codebook(path).code("study", VALUES[0]) != first[VALUES[0]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"1.2.840" not in path.read_bytes()


def test_another_book_gives_other_codes(tmp_path: Path) -> None:
    assert Codebook(tmp_path / "a").code("uid", "1") != Codebook(tmp_path / "b").code("uid", "1")


def test_what_is_no_book_is_told(tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(b"no book" * 1000)
    with pytest.raises(SettingsError, match="Expected a book of codes"):
        Codebook(tmp_path / "book")
