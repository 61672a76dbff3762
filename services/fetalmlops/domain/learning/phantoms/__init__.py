"""Data sets of phantoms: which images there are, how each is rendered, and the table that says what they show."""
