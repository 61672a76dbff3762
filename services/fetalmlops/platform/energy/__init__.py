"""The energy of a process: counters of the machine, a model where there are none, and the ledger that keeps both."""
