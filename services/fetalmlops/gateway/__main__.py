"""Run the gateway: ``python -m fetalmlops.gateway``."""

from __future__ import annotations

import uvloop

from fetalmlops.gateway.process import main
from fetalmlops.platform.service import run_service

if __name__ == "__main__":
    run_service("gateway", main, loop_factory=uvloop.new_event_loop)
