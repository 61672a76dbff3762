"""The command `fetalmlops`."""
