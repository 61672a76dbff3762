"""Metrics of the gateway. Routes are those of the contract, so labels are bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["HELD_BYTES", "REQUESTS", "REQUEST_SECONDS"]

REQUESTS = Counter(
    "fetalmlops_gateway_requests", "Requests by route, status and reason of a refusal", ["route", "status", "reason"]
)
REQUEST_SECONDS = Histogram(
    "fetalmlops_gateway_request_duration_seconds",
    "Time from a request's head to the end of its answer",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
HELD_BYTES = Gauge("fetalmlops_gateway_held_bytes", "Bytes of files that are held in memory")
