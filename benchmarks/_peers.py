"""What the libraries do that de-identification is measured against; run by ``deidentification.py`` in an environment of theirs.

Reads files, de-identifies each with one library from bytes to bytes in memory, and prints JSON: CPU seconds of one call by
file, or why there are none. ``python benchmarks/_peers.py LIBRARY SECONDS FILE...``
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset


def _floor() -> Callable[[Dataset], Dataset]:
    """Read every element and write it again."""

    def work(dataset: Dataset) -> Dataset:
        for _ in dataset.iterall():
            pass
        return dataset

    return work


def _dicom_anonymizer() -> Callable[[Dataset], Dataset]:
    """Apply its rules of the table of 2026c: its default is the table of 2023, which misses 46 rows."""
    from dicomanonymizer import anonymize_dataset
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    rules = initialize_actions("dicomfields_2026c")

    def work(dataset: Dataset) -> Dataset:
        anonymize_dataset(dataset, base_rules_gen=lambda: rules)
        return dataset

    return work


def _dicognito() -> Callable[[Dataset], Dataset]:
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer(seed="benchmark")

    def work(dataset: Dataset) -> Dataset:
        anonymizer.anonymize(dataset)
        return dataset

    return work


def _deid() -> Callable[[Dataset], Dataset]:
    from deid.config import DeidRecipe
    from deid.dicom.parser import DicomParser

    recipe = DeidRecipe()

    def work(dataset: Dataset) -> Dataset:
        parser = DicomParser(dataset, recipe=recipe)
        parser.parse(strip_sequences=True, remove_private=True)
        return parser.dicom

    return work


def _idiscore() -> Callable[[Dataset], Dataset]:
    from idiscore.core import Core, Profile
    from idiscore.defaults import get_dicom_rule_sets

    core = Core(Profile([get_dicom_rule_sets().basic_profile]))
    return core.deidentify


LIBRARIES = {
    "pydicom": ("pydicom", _floor),
    "dicom-anonymizer": ("dicomanonymizer", _dicom_anonymizer),
    "dicognito": ("dicognito", _dicognito),
    "deid": ("deid", _deid),
    "idiscore": ("idiscore", _idiscore),
}


def main() -> None:
    """Print the figures of one library."""
    warnings.simplefilter("ignore")
    library, seconds, *places = sys.argv[1:]
    module, make = LIBRARIES[library]
    if importlib.util.find_spec(module) is None:
        print(
            json.dumps({"missing": f"{library} does not install on Python {sys.version_info[0]}.{sys.version_info[1]}"})
        )
        return
    work = make()
    print(json.dumps({place: _cpu_seconds(work, Path(place).read_bytes(), float(seconds)) for place in places}))


def _cpu_seconds(work: Callable[[Dataset], Dataset], data: bytes, seconds: float) -> float | str:
    try:
        _once(work, data)  # warm
    except Exception as error:  # noqa: BLE001
        return f"fails: {type(error).__name__}"
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < seconds:
        _once(work, data)
        calls += 1
    return (time.process_time() - begin) / calls


def _once(work: Callable[[Dataset], Dataset], data: bytes) -> None:
    target = io.BytesIO()
    work(pydicom.dcmread(io.BytesIO(data))).save_as(target)


if __name__ == "__main__":
    main()
