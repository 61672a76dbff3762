"""Work on untrusted data in child processes, under limits: `parent` starts them, `child` runs in them, `wire` is between.

This file imports neither: a child must not pay for its parent.
"""
