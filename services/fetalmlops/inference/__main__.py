"""Run the inference service: ``python -m fetalmlops.inference``."""

from __future__ import annotations

from fetalmlops.inference.parent import main
from fetalmlops.platform.service import run_service

if __name__ == "__main__":
    run_service("inference", main)
