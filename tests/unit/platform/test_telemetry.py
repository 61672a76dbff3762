"""Spans: what they say of an error, and that they may change threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.errors import ContractError
from fetalmlops.platform.telemetry import begin_span, current_traceparent, span, traceparent_of, within

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def test_the_text_of_a_foreign_error_stays_out_of_a_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="CANARY"), span("work"):
        raise ValueError("CANARY")
    (ended,) = spans.get_finished_spans()
    assert ended.status.description == "ValueError"
    assert ended.events == ()


def test_our_own_errors_say_what_was_expected(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ContractError), span("work"):
        raise ContractError("Expected more, got less", reason="less")
    assert spans.get_finished_spans()[0].status.description == "Expected more, got less"


def test_a_span_goes_on_in_another_thread(spans: InMemorySpanExporter) -> None:
    seen: list[str] = []

    def go_on() -> None:
        with within(begun):
            seen.append(current_traceparent())

    begun = begin_span("work")
    assert current_traceparent() == ""
    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    assert seen == [traceparent_of(begun)]
    assert [ended.name for ended in spans.get_finished_spans()] == ["work"]
