"""What trainings have taken, as their records tell: MLflow's database of the state folder, and the manifests of bundles.

The database is read as it lies, so that no package of the train extra is needed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.report import Training
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.domain.models.bundle import bundle_digest
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest
from fetalmlops.platform.inference.bundles import PACKAGED, bundles_folder, packaged_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

__all__ = ["PURPOSE", "bundled_trainings", "recorded_trainings"]

PURPOSE: Final = "purpose"
"""Tag of a run that says what it was for: ``training`` or ``search``."""

_RUNS: Final = """
select run.name, run.start_time,
  (select value from latest_metrics where run_uuid = run.run_uuid and key = 'energy_kwh'),
  (select value from tags where run_uuid = run.run_uuid and key = 'energy'),
  (select value from tags where run_uuid = run.run_uuid and key = 'purpose'),
  (select value from tags where run_uuid = run.run_uuid and key = 'bundle')
from runs run where run.lifecycle_stage = 'active' order by run.start_time
"""


def recorded_trainings(home: Path, first: date, last: date) -> Iterator[tuple[str, Training]]:
    """Yield the trainings that began between two days, both included, each with the digest of the bundle that it made.

    Parameters
    ----------
    home
        State folder.
    first, last
        UTC days.

    Raises
    ------
    FetalMLOpsError
        If there is a database that cannot be read.
    """
    path = home.absolute() / "mlflow" / "mlflow.db"
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(_RUNS).fetchall()
    except sqlite3.Error as error:
        msg = (
            f"Expected the record of trainings in {path}, got {type(error).__name__}; restore the file, or take it away"
        )
        raise FetalMLOpsError(msg) from None
    for name, start_ms, kwh, energy, purpose, digest in rows:
        if first <= datetime.fromtimestamp((start_ms or 0) / 1000, UTC).date() <= last:
            method, _, source = (energy or "").partition(": ")
            yield (
                digest or "",
                Training(
                    name=name,
                    purpose="search" if purpose == "search" else "training",
                    kwh=kwh,
                    method=EnergyMethod(method),
                    source=source,
                ),
            )


def bundled_trainings(home: Path, first: date, last: date) -> Iterator[tuple[str, Training]]:
    """Yield the trainings of the bundles of a state folder that came there between two days, and of the package's.

    Each with the bundle's digest. A bundle that cannot be read is left out: `fetalmlops bundle list` tells of it.
    """
    for path in sorted(bundles_folder(home).glob(f"[!.]*/{MANIFEST_NAME}")):
        if first <= datetime.fromtimestamp(path.stat().st_mtime, UTC).date() <= last:
            try:
                yield _told(path.read_bytes(), here=True)
            except FetalMLOpsError:
                continue
    for name in PACKAGED:
        yield _told(packaged_bundle(name)[MANIFEST_NAME], here=False)


def _told(content: bytes, *, here: bool) -> tuple[str, Training]:
    manifest = decode_manifest(content)
    energy = manifest.provenance.energy
    return bundle_digest(content), Training(
        name=f"{manifest.name} {manifest.version}",
        purpose="training",
        kwh=energy.kwh,
        method=EnergyMethod(energy.method),
        source=energy.tool,
        here=here,
    )
