"""Running the system: the quarantine's open entries and the lifetimes of objects."""
