"""Run the listener: ``python -m fetalmlops.listener``."""

from __future__ import annotations

from fetalmlops.listener.service import listen
from fetalmlops.platform.service import run_service

if __name__ == "__main__":
    run_service("listener", listen)
