"""Simulated DICOM files through the way that serving takes: decode, normalise, prepare, engine, decision."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.simulation import InstanceSpec, find_scanner, make_instance
from fetalmlops.platform.inference.local import LocalModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.models.classify import Classified

__all__ = ["Served", "serve_phantoms"]


@dataclass(frozen=True)
class Served:
    """Results on simulated instances.

    Parameters
    ----------
    results
        Name of the plane that was simulated, with the result.
    """

    results: Sequence[tuple[str, Classified]]

    @property
    def right(self) -> int:
        """How many results name the plane that was simulated."""
        return sum(shown == str(result.plane) for shown, result in self.results)


def serve_phantoms(files: dict[str, bytes], scanners: Sequence[str], count: int, seed: int) -> Served:
    """Classify simulated DICOM instances by a bundle, as the running system would.

    Parameters
    ----------
    files
        Files of the bundle; they are verified first.
    scanners
        Scanners that make the instances.
    count
        How many instances.
    seed
        Seed of the instances.
    """
    model = LocalModel(load_bundle(files))
    results = []
    for index in range(count):
        plane = PLANES[index % len(PLANES)]
        scanner = find_scanner(scanners[index // len(PLANES) % len(scanners)])
        spec = InstanceSpec(plane=plane, scanner=scanner, study=seed, number=index + 1)
        results.append((str(plane), model.judge_stream(io.BytesIO(make_instance(spec).data)).result))
    return Served(results)
