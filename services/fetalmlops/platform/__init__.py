"""With what it is done: thin adapters to Kafka, object store, key-value store, telemetry and processes."""
