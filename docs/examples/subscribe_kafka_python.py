"""Subscribe to results with kafka-python: each result once, and what it supersedes withdrawn.

Run it: ``python subscribe_kafka_python.py 127.0.0.1:9092 [--stop-after SECONDS]``. It prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import time

from kafka import KafkaConsumer

TOPIC = "results.instance.classified.v1"


class CurrentResults:
    """What a subscriber keeps: in a real system, a table with the ``ce_id`` as its primary key."""

    def __init__(self) -> None:
        self.by_id: dict[str, dict] = {}
        self.withdrawn: set[str] = set()

    def apply(self, event_id: str, result: dict) -> bool:
        """Take a result in; return whether a reader has to see it."""
        if event_id in self.by_id:
            return False  # a repetition: the first one wins
        self.by_id[event_id] = result
        if result.get("supersedes"):
            self.withdrawn.add(result["supersedes"])
        # A result can arrive after the one that replaces it.
        return event_id not in self.withdrawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap_servers")
    parser.add_argument("--group", default="example-kafka-python")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds without a record")
    options = parser.parse_args()
    consumer = KafkaConsumer(
        TOPIC,
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        reconnect_backoff_max_ms=1000,
    )
    results = CurrentResults()
    last = time.monotonic()
    while time.monotonic() - last < options.stop_after:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                last = time.monotonic()
                event_id = dict(record.headers)["ce_id"].decode()
                result = json.loads(record.value)
                if result["role"] == "champion" and results.apply(event_id, result):
                    print(
                        json.dumps(
                            {
                                "ce_id": event_id,
                                "supersedes": result.get("supersedes"),
                                "decision": result["decision"],
                                "plane": result.get("plane"),
                                "content_id": result["content_id"],
                            }
                        ),
                        flush=True,
                    )
        # Only what has been dealt with is committed: after a crash some results come again, and are recognised.
        consumer.commit()
    consumer.close()


if __name__ == "__main__":
    main()
