"""Subscribe to results with aiokafka: each result once, and what it supersedes withdrawn.

Run it: ``python subscribe_aiokafka.py 127.0.0.1:9092 [--stop-after SECONDS]``. It prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from aiokafka import AIOKafkaConsumer

TOPIC = "results.instance.classified.v1"


async def subscribe(bootstrap_servers: str, group: str, stop_after: float | None) -> None:
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    seen: set[str] = set()
    withdrawn: set[str] = set()
    try:
        while True:
            record = await asyncio.wait_for(consumer.getone(), stop_after)
            event_id = dict(record.headers)["ce_id"].decode()
            result = json.loads(record.value)
            if result["role"] == "champion" and event_id not in seen:
                seen.add(event_id)
                if result.get("supersedes"):
                    withdrawn.add(result["supersedes"])
                if event_id not in withdrawn:
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
            await consumer.commit()
    except TimeoutError:
        pass
    finally:
        await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap_servers")
    parser.add_argument("--group", default="example-aiokafka")
    parser.add_argument("--stop-after", type=float, default=None, help="seconds without a record")
    options = parser.parse_args()
    asyncio.run(subscribe(options.bootstrap_servers, options.group, options.stop_after))


if __name__ == "__main__":
    main()
