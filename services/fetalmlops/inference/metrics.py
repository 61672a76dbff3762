"""Metrics of the inference service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["BATCH_FRAMES", "CALLS", "CALL_SECONDS", "FRAMES_WAITING"]

CALLS = Counter("fetalmlops_inference_calls", "Classify calls by gRPC status", ["status"])
CALL_SECONDS = Histogram(
    "fetalmlops_inference_call_duration_seconds",
    "Time from a Classify call's arrival to its answer",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_FRAMES = Histogram(
    "fetalmlops_inference_batch_frames", "Frames in one run of the engine", buckets=(1, 2, 4, 8, 16, 32, 64)
)
FRAMES_WAITING = Gauge("fetalmlops_inference_frames_waiting", "Frames that wait for the engine")
