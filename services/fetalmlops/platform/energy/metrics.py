"""Metrics of energy. Labels are bounded: vocabularies of `fetalmlops.domain.energy`."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["JOULES"]

JOULES = Counter(
    "fetalmlops_energy_joules",
    "Energy in joules: the process's work, and what its machine takes idle where this process counts it",
    ["share", "method"],
)
