"""Metrics of the inference service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "BATCH_FRAMES",
    "CALLS",
    "CALL_JOULES",
    "CALL_SECONDS",
    "ENGINE_SECONDS",
    "FRAMES",
    "FRAMES_WAITING",
    "PREPARATION_SECONDS",
    "QUEUE_SECONDS",
]

_SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

CALLS = Counter("fetalmlops_inference_calls", "Classify and ModelInfer calls by gRPC status", ["status"])
CALL_SECONDS = Histogram(
    "fetalmlops_inference_call_duration_seconds",
    "Time from a Classify call's arrival to the champion's answer",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_FRAMES = Histogram(
    "fetalmlops_inference_batch_frames", "Frames in one run of the engine", buckets=(1, 2, 4, 8, 16, 32, 64)
)
FRAMES = Counter(
    "fetalmlops_inference_frames",
    "Frames of Classify calls by outcome: answered, or dropped with their call",
    ["outcome"],
)
FRAMES_WAITING = Gauge("fetalmlops_inference_frames_waiting", "Frames that wait for the engine")
PREPARATION_SECONDS = Histogram(
    "fetalmlops_inference_preparation_duration_seconds",
    "Time of checking and preparing the frames of one message",
    buckets=_SHORT,
)
QUEUE_SECONDS = Histogram(
    "fetalmlops_inference_queue_duration_seconds",
    "Time that frames of one message waited for the engine, by role of the model",
    ["role"],
    buckets=_SHORT,
)
ENGINE_SECONDS = Histogram(
    "fetalmlops_inference_engine_duration_seconds", "Time of one run of the engine", buckets=_SHORT
)
CALL_JOULES = Counter(
    "fetalmlops_inference_joules", "Energy that the answered calls took, in joules, idle power apart", ["method"]
)
