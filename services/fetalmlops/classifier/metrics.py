"""Metrics of the classifier. Labels are bounded: vocabularies of the contract, and the keyed identities of scanners."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

__all__ = ["JOULES", "LATENCY_SECONDS", "RESULTS", "SHADOW_RESULTS"]

RESULTS = Counter(
    "fetalmlops_results", "Results by decision, plane and scanner (keyed hash)", ["decision", "plane", "scanner"]
)
SHADOW_RESULTS = Counter(
    "fetalmlops_shadow_results", "Results of the shadow by decision and plane", ["decision", "plane"]
)
LATENCY_SECONDS = Histogram(
    "fetalmlops_result_latency_seconds",
    "Time from an instance's first receipt to its result",
    ["lane"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)
JOULES = Counter(
    "fetalmlops_result_joules", "Energy of the inference of published results, in joules, idle power apart", ["method"]
)
