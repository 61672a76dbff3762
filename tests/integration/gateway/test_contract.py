"""The description holds: whatever is sent, there is no defect, and no answer that it does not name."""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from support.gateway import GatewayProcess
from support.mutants import make_mutant

if TYPE_CHECKING:
    from schemathesis import BaseSchema, Case

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_headers_conformance,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.allow_header_conformance,
    schemathesis.checks.negative_data_rejection,
    schemathesis.checks.ignored_auth,
    schemathesis.checks.unsupported_method,
]
"""All but those that speak of resources that are made, and of valid data: bytes that are no image are valid, and refused."""
FILES = st.one_of(
    st.binary(max_size=2000), st.integers(0, 10**6).map(lambda number: make_mutant(20260302, number).data)
)
MEDIA_TYPES = ("application/dicom", "image/png", "image/jpeg")
UNHURRIED = {"deadline": None, "suppress_health_check": [*HealthCheck], "derandomize": True, "database": None}

# It imports most of itself at its first use, and pytest parses each module of a plugin. Late in a run garbage of other tests
# may be collected meanwhile, and what is told of it parses, too: CPython 3.11 takes that for an error. So it is done now.
for part in ("core", "engine", "generation", "openapi", "python", "specs.openapi"):
    package = importlib.import_module(f"schemathesis.{part}")
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)

for media_type in MEDIA_TYPES:
    schemathesis.openapi.media_type(media_type, FILES)


@pytest.fixture(scope="module")
def contract(gateway: GatewayProcess) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("count", [15, pytest.param(1000, marks=pytest.mark.slow)])
def test_answers_are_those_of_the_description(
    contract: BaseSchema, gateway: GatewayProcess, mode: GenerationMode, count: int
) -> None:
    for found in contract.get_all_operations():
        operation = found.ok()

        @settings(max_examples=count if operation.method == "post" else 3, **UNHURRIED)
        @given(operation.as_strategy(generation_mode=mode))
        def judge(case: Case) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {gateway.key}"}, checks=CHECKS)

        with suppress(Unsatisfiable):  # there is no wrong way to ask for what takes nothing
            judge()
