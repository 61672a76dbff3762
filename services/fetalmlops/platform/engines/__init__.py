"""Engines: what runs a bundle's network."""
