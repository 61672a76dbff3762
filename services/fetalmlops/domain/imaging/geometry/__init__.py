"""Where the tissue lies in a frame: regions of the dataset, content, the sector's shape, and change of size."""

from fetalmlops.domain.imaging.geometry.regions import Box, Geometry, Spacing, find_content, read_geometry

__all__ = ["Box", "Geometry", "Spacing", "find_content", "read_geometry"]
