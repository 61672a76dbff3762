"""The listener's metrics. Labels are bounded: statuses, outcomes, and the ids of the sources table."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "ANNOUNCEMENTS",
    "ANNOUNCEMENTS_WAITING",
    "ASSOCIATIONS",
    "ASSOCIATIONS_OPEN",
    "INSTANCE_BYTES",
    "STORES",
    "STORE_SECONDS",
    "SWEEP_LAST",
    "SWEEP_UNFINISHED",
]

ASSOCIATIONS = Counter(
    "fetalmlops_dicom_associations",
    "Connections by how they ended: released, aborted (or lost), rejected, refused (too many), unreadable (no request)",
    ["outcome"],
)
ASSOCIATIONS_OPEN = Gauge("fetalmlops_dicom_associations_open", "Associations that are open now")
STORES = Counter(
    "fetalmlops_dicom_stores", "C-STORE requests by source and by the status of the answer", ["source", "status"]
)
STORE_SECONDS = Histogram(
    "fetalmlops_dicom_store_duration_seconds",
    "Time from the first dataset fragment of a C-STORE request to its response",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
INSTANCE_BYTES = Counter("fetalmlops_dicom_received_bytes", "Bytes of the datasets received", ["source"])
ANNOUNCEMENTS = Counter(
    "fetalmlops_listener_announcements",
    "Events by outcome: published, failed, dropped (the sweep brings it again), swept (announced again)",
    ["outcome"],
)
ANNOUNCEMENTS_WAITING = Gauge("fetalmlops_listener_announcements_waiting", "Events not yet acknowledged by the broker")
SWEEP_LAST = Gauge("fetalmlops_listener_sweep_timestamp_seconds", "When the last sweep ended")
SWEEP_UNFINISHED = Gauge(
    "fetalmlops_listener_unfinished_instances", "Stored instances without a done marker at the last sweep"
)
