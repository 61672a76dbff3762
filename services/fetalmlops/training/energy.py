"""Energy of a training run, by codecarbon where it is installed.

Its figures are called modelled: memory's power is a constant to it, and without energy counters so is each core's.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fetalmlops.domain.models.manifest import Energy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EnergyMeter", "energy_meter"]


class EnergyMeter:
    """Holds the figures of a block once it has ended."""

    def __init__(self) -> None:
        self.energy = Energy(method="unknown", tool="codecarbon not run")


@contextmanager
def energy_meter(country: str = "ITA") -> Iterator[EnergyMeter]:
    """Meter a block with codecarbon's offline tracker, which looks nothing up over the network.

    Parameters
    ----------
    country
        ISO 3166-1 alpha-3 code of the country whose mean grid factor turns energy into emissions.
    """
    meter = EnergyMeter()
    tracker = _tracker(country)
    if tracker is None:
        yield meter
        return
    tracker.start()
    try:
        yield meter
    finally:
        grams = 1000 * float(tracker.stop() or 0.0)
        data = tracker.final_emissions_data
        meter.energy = Energy(
            method="modelled",
            kwh=round(float(data.energy_consumed), 6),
            co2e_g=round(grams, 3),
            tool=f"codecarbon {data.codecarbon_version}, grid factor of {country}",
        )


def _tracker(country: str) -> Any:
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return None
    # It says that it begins before it has read the level that it is given.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    return OfflineEmissionsTracker(
        country_iso_code=country, tracking_mode="process", save_to_file=False, log_level="error"
    )
