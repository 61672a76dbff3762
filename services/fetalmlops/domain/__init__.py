"""What is done: pure functions and values; no thread, path, socket or clock."""
