"""Files are whole or not there, with the rights that were asked for."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fetalmlops.platform.files import OWNER_ONLY, replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_whole_and_its_owners(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    (tmp_path / ".page.html.draft").write_text("torn")
    target.write_text("old")
    replace_file(target, b"new", OWNER_ONLY)
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
