"""Part 10 files: a strict reader, and a writer of nothing but what it is given."""
