"""Dates: whole days, the same for all dates of a patient, never clamped, nothing that is no date."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid.rules.dates import MOST_DAYS, DatePolicy, Dates, shift_days

KEY = PseudonymKey("tests", bytes(range(32)))
DAYS = st.integers(-MOST_DAYS, -1)
DATES = st.dates(dt.date(1900, 1, 1), dt.date(2100, 12, 31))


def read(text: str | None) -> dt.date:
    return dt.datetime.strptime(text or "", "%Y%m%d").date()  # noqa: DTZ007 - dates have no zone


@given(DATES, DATES, DAYS)
def test_intervals_stay(first: dt.date, second: dt.date, days: int) -> None:
    dates = Dates(DatePolicy.SHIFT, days)
    moved = [read(dates.apply("DA", date.strftime("%Y%m%d"))) for date in (first, second)]
    assert moved[1] - moved[0] == second - first
    assert moved[0] == first + dt.timedelta(days=days)


def test_shifts_are_keyed_and_spread() -> None:
    shifts = [shift_days(KEY, f"patient-{number}") for number in range(4000)]
    assert shifts == [shift_days(KEY, f"patient-{number}") for number in range(4000)]
    assert min(shifts) >= -MOST_DAYS
    assert max(shifts) <= -1
    assert len(set(shifts)) > MOST_DAYS * 0.85
    other = PseudonymKey("tests", bytes(range(1, 33)))
    assert sum(shift_days(other, f"patient-{number}") == shifts[number] for number in range(4000)) < 20


@pytest.mark.parametrize(
    ("policy", "vr", "value", "expected"),
    [
        (DatePolicy.NONE, "DA", "20240131", None),
        (DatePolicy.NONE, "TM", "101500", None),
        (DatePolicy.SHIFT, "DA", "20240301", "20240229"),
        (DatePolicy.SHIFT, "TM", "101500.123456", "101500.123456"),
        (DatePolicy.SHIFT, "DT", "20240301101500.5+0100", "20240229101500.5+0100"),
        (DatePolicy.SHIFT, "DT", "20240301", "20240229"),
        (DatePolicy.SHIFT, "DA", "00010101", None),
        (DatePolicy.FULL, "DA", "20240229", "20240229"),
        (DatePolicy.FULL, "DA", "20230229", None),
        (DatePolicy.YEAR, "DA", "20240229", "20240101"),
        (DatePolicy.YEAR, "TM", "101500", None),
        (DatePolicy.YEAR, "DT", "20240229101500", "20240101"),
    ],
)
def test_what_becomes_of_a_value(policy: DatePolicy, vr: str, value: str, expected: str | None) -> None:
    assert Dates(policy, -1).apply(vr, value) == expected


@pytest.mark.parametrize("policy", DatePolicy)
@pytest.mark.parametrize("vr", ["DA", "TM", "DT"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "DOE^JANE",
        "2024.01.31",
        "20241301",
        "20240131DOE",
        "20240131101500DOE",
        "20240131+JANE",
        "251500",
        "\uff11\uff19\uff19\uff190101",
    ],
)
def test_what_is_no_date_goes(policy: DatePolicy, vr: str, value: str) -> None:
    assert Dates(policy, -1).apply(vr, value) is None
