from __future__ import annotations

import json

import pytest

from fetalmlops.gateway.problems import MEDIA_TYPE, busy, problem_response


@pytest.mark.parametrize(("seconds", "told"), [(None, "1"), (0.05, "1"), (1.0, "1"), (1.01, "2"), (12.5, "13")])
def test_a_time_to_come_back_is_told_in_whole_seconds_and_never_too_early(seconds: float | None, told: str) -> None:
    response = problem_response(busy("busy", "Expected less, got more; try again later", seconds))
    assert (response.status_code, response.headers["retry-after"]) == (503, told)
    assert response.headers["content-type"] == MEDIA_TYPE


def test_a_problem_says_what_it_is() -> None:
    problem = json.loads(problem_response(busy("busy", "Expected less, got more; try again later")).body)
    assert [*problem] == ["type", "title", "status", "detail", "reason", "trace_id"]
    assert problem["title"] == "Service Unavailable"
