from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fetalmlops.inference.reports import join_facts, join_metrics
from fetalmlops.platform.health import Health, HealthServer
from fetalmlops.platform.settings import HealthSettings


def test_facts_that_differ_are_told_of_each_alone() -> None:
    reports = {
        1: {"ready": True, "pid": 1, "bundle": "a 1", "bundle_refused": None},
        2: {"ready": False, "pid": 2, "bundle": "a 2", "bundle_refused": "no bf16", "waiting": [{"for": "broker"}]},
        3: {},
    }
    facts = join_facts(reports)
    assert (facts["bundle"], facts["bundle_refused"]) == (None, "no bf16")
    assert facts["processes"]["1"] == {"ready": True, "pid": 1, "bundle": "a 1", "bundle_refused": None}
    assert facts["processes"]["2"]["waiting"] == [{"for": "broker"}]
    assert facts["processes"]["3"] == {"ready": False}
    assert "pid" not in facts


def served(calls: int) -> HealthServer:
    registry = CollectorRegistry()
    Counter("calls", "Calls", ["status"], registry=registry).labels("OK").inc(calls)
    health = Health("test")
    health.metrics = lambda: generate_latest(registry)
    server = HealthServer(health, HealthSettings())
    server.start()
    return server


def test_metrics_of_all_processes_stand_side_by_side() -> None:
    servers = [served(3), served(4)]
    ports = {number: server.port for number, server in enumerate(servers, start=1)}
    text = join_metrics(ports).decode()
    servers[1].stop()
    one = join_metrics(ports).decode()
    servers[0].stop()
    values = {
        sample.labels["process"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "calls_total"
    }
    assert values == {"1": 3, "2": 4}
    assert text.count("# TYPE calls_total counter") == 1
    assert 'calls_total{process="1",status="OK"} 3.0' in one
    assert 'process="2"' not in one
