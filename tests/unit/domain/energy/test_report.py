from __future__ import annotations

import pytest

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import Share
from fetalmlops.domain.energy.entries import MACHINE, Entry
from fetalmlops.domain.energy.report import Factor, Report, Training, make_report

FACTOR = Factor(grams_per_kwh=300.0, region="somewhere", source="a table")
MODELLED, MEASURED = EnergyMethod.MODELLED, EnergyMethod.MEASURED


def entry(process: str, joules: float, share: Share = Share.WORK, **more: object) -> Entry:
    fields = {"method": MODELLED, "source": "a model", **more}
    return Entry(process=process, share=share, joules=joules, **fields)


def made(trainings: list[Training] | None = None, entries: list[Entry] | None = None) -> Report:
    return make_report("2026-01-01", "2026-01-31", FACTOR, trainings or [], entries)


def test_runs_and_days_of_a_process_come_to_one_line_but_not_what_is_measured_with_what_is_modelled() -> None:
    report = made(entries=[entry("inference", 10), entry("inference", 20), entry("inference", 5, method=MEASURED)])
    assert [(line.joules, line.method) for line in report.lines] == [(30, MODELLED), (5, MEASURED)]
    assert report.totals["serving"] == 35


def test_an_image_costs_its_inference_all_work_and_the_idle_machine() -> None:
    report = made(
        entries=[
            entry("inference", 10, images=4, frames=6),
            entry("inference", 2, source="a GPU", method=MEASURED),
            entry("classifier", 8),
            entry(MACHINE, 100, Share.IDLE),
        ]
    )
    assert report.per_image
    assert (report.per_image.images, report.per_image.frames) == (4, 6)
    assert (report.per_image.inference, report.per_image.work, report.per_image.with_idle) == (3, 5, 30)


def test_what_was_not_recorded_is_no_zero() -> None:
    unknown = Training(name="resumed", purpose="training", kwh=None, method=EnergyMethod.UNKNOWN, source="")
    report = made([unknown], entries=[entry("classifier", 1)])
    assert report.totals == {"training": None, "search": None, "serving": 1, "idle": None}
    assert (report.lines[0].joules, report.lines[0].co2e_g) == (None, None)
    assert report.per_image
    assert report.per_image.work is None
    assert made(entries=None).per_image is None


def test_only_what_ran_here_is_in_the_total() -> None:
    elsewhere = Training(name="packaged", purpose="training", kwh=5.0, method=MODELLED, source="", here=False)
    here = Training(name="own", purpose="training", kwh=1.0, method=MODELLED, source="")
    search = Training(name="trial", purpose="search", kwh=0.5, method=MODELLED, source="")
    report = made([elsewhere, here, search])
    assert (report.totals["training"], report.totals["search"]) == (3.6e6, 1.8e6)
    assert [line.co2e_g for line in report.lines] == pytest.approx([300, 1500, 150])


def test_embodied_carbon_is_said_to_be_left_out() -> None:
    assert any("embodied" in text for text in made().excluded)
