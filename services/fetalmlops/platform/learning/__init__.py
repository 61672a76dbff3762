"""Data sets and weights as files of the state folder."""
