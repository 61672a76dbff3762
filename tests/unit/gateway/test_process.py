from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.gateway.accounts import KeysFile, add_key
from fetalmlops.gateway.process import _require_keys
from fetalmlops.platform.settings import GatewaySettings

if TYPE_CHECKING:
    from pathlib import Path


def test_other_machines_need_a_key_and_this_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    assert not _require_keys(GatewaySettings(), KeysFile(path))
    for host in ("0.0.0.0", "::", "gateway"):
        with pytest.raises(SettingsError, match="fetalmlops keys gateway add"):
            _require_keys(GatewaySettings(host=host), KeysFile(path))
    add_key(path, "ris")
    assert _require_keys(GatewaySettings(host="0.0.0.0"), KeysFile(path))
    assert _require_keys(GatewaySettings(), KeysFile(path))
