"""How energy is counted, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fetalmlops.platform.settings.section import Seconds, Section

__all__ = ["EnergySettings"]

Watts = Annotated[float, Field(ge=0)]


class EnergySettings(Section):
    """Energy: the model for machines without a counter, the ledger, and the factor of the grid."""

    watts_per_core: Annotated[float, Field(gt=0)] = 3.5
    """Power of a busy logical processor, its idle power included, in watts; for machines without a counter."""
    idle_watts_per_core: Watts = 0.74
    """Power of an idle logical processor, in watts; for machines without a counter."""
    watts_source: str = "Cloud Carbon Footprint, methodology, appendix I: averages of AWS"
    """Where these two are from; stands in every figure that they made."""
    idle_watts: Watts = 0.0
    """Power of the idle machine as its counter shows it, in watts; 0 takes the least that was seen."""
    powercap: Path = Path("/sys/class/powercap")
    """Folder of the kernel's power capping class, where the processors' energy counters are."""
    record_interval_s: Seconds = 60.0
    """Time between two entries in the ledger."""
    grams_per_kwh: Annotated[float, Field(ge=0)] = 330.718
    """Emissions of a kilowatt-hour of electricity, in g CO2e."""
    region: str = "Italy, 2023"
    """Region and year of that factor."""
    factor_source: str = "codecarbon 3.3.2, global_energy_mix.json"
    """Where that factor is from."""
