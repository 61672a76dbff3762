"""Replay, retention and sealing: the one active caretaker."""
