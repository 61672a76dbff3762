"""Pixels: which of them are proven, and their writing without the rest."""
