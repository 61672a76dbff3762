"""What a process writes about an exception: its kind and its places, never the text of a foreign one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.settings import Settings
from fetalmlops.platform.telemetry import get_logger, set_up_telemetry

set_up_telemetry("test", Settings())
log = get_logger("fetalmlops.test")
try:
    raise {error}
except Exception as error:
    {call}
"""
_CALLS = {
    "within its handler": 'log.exception("crashed")',
    "as itself": 'log.error("crashed", exc_info=error)',
    "as a triple": 'log.error("crashed", exc_info=sys.exc_info())',
}


def logged(error: str, call: str) -> str:
    program = _PROGRAM.format(error=error, call=call)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return done.stderr


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS.keys())
def test_an_exception_is_logged_by_kind_and_place(call: str) -> None:
    text = logged('ValueError("CANARY^NAME")', call)

    line = json.loads(text)
    assert (line["event"], line["error"], line["at"]) == ("crashed", "ValueError", ["<string>:10"])
    assert "CANARY" not in text


def test_our_own_errors_keep_their_text() -> None:
    text = logged('FetalMLOpsError("Expected this, got that")', _CALLS["as itself"])

    assert json.loads(text)["error"] == "Expected this, got that"
