"""A shadow in a whole system: it judges what the champion judges, and no instance depends on it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED, INSTANCE_SHADOWED, Topic
from fetalmlops.domain.imaging.pipelines import HARMONISED, PLAIN, find_pipeline
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import PipelineEntry
from fetalmlops.domain.operations.results import CurrentResults
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.inference.bundles import bundled_files, save_bundle
from support.deployment import Deployment, deployed, wait_until
from support.promotions import resealed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SETTINGS = '[inference]\nshadow = true\n[normalizer]\npipelines = ["plain", "harmonised"]\n'
FIRST, MORE = 12, 4


def run(deployment: Deployment, *words: str) -> Result:
    done = CliRunner().invoke(app, ["--home", str(deployment.home), *words])
    assert done.exit_code == 0, done.output
    return done


def current(deployment: Deployment, topic: Topic) -> list[InstanceClassified]:
    async def read() -> list[InstanceClassified]:
        found = CurrentResults()
        async for record, result in read_events(deployment.settings.kafka, topic, InstanceClassified):
            found.add(Envelope.from_headers(record.headers).id, result)
        return list(found)

    return asyncio.run(read())


def test_a_shadow_of_another_pipeline_judges_the_same_and_nothing_waits_for_it() -> None:
    base = load_bundle(bundled_files())
    entry = PipelineEntry(name=HARMONISED, digest=find_pipeline(HARMONISED).digest)
    shadow = resealed(base, version="8.5.0", pipeline=entry)
    person = ("--account", "a.person", "--reason", "for the test")
    with deployed(SETTINGS) as deployment:
        folder: Path = save_bundle(deployment.home, shadow.files)
        done = run(deployment, "promote", folder.name, "--role", "shadow", *person)
        assert "The inference service serves it" in " ".join(done.output.split())
        run(deployment, "simulate", "--instances", str(FIRST), "--seed", "7")
        wait_until(lambda: len(current(deployment, INSTANCE_SHADOWED)) == FIRST, 90)
        wait_until(lambda: len(current(deployment, INSTANCE_CLASSIFIED)) == FIRST, 90)
        found = {topic: current(deployment, topic) for topic in (INSTANCE_CLASSIFIED, INSTANCE_SHADOWED)}
        for topic, bundle, pipeline in (
            (INSTANCE_CLASSIFIED, base, PLAIN),
            (INSTANCE_SHADOWED, shadow, HARMONISED),
        ):
            assert {result.lineage.bundle_digest for result in found[topic]} == {bundle.digest}
            assert {result.lineage.pipeline_digest for result in found[topic]} == {find_pipeline(pipeline).digest}
        (agreement,) = json.loads(run(deployment, "models", "shadow", "--json").output)
        assert agreement["instances"] == FIRST
        assert sum(sum(row.values()) for row in agreement["decision_counts"].values()) == FIRST

        deployment.take_away("shadow")
        run(deployment, "simulate", "--instances", str(MORE), "--seed", "8")
        wait_until(lambda: len(current(deployment, INSTANCE_CLASSIFIED)) == FIRST + MORE, 90)
        wait_until(lambda: len(deployment.done()) == FIRST + MORE, 30)
        assert len(current(deployment, INSTANCE_SHADOWED)) == FIRST
        deployment.bring_back("shadow")
        wait_until(lambda: len(current(deployment, INSTANCE_SHADOWED)) == FIRST + MORE, 90)

        # Ended, it leaves events alone; they pass it, and end by the champion.
        run(deployment, "retire", *person)
        wait_until(lambda: not deployment.readiness("inference").report.get("shadow_bundle_digest"), 30)
        run(deployment, "simulate", "--instances", "2", "--seed", "9")
        wait_until(lambda: len(current(deployment, INSTANCE_CLASSIFIED)) == FIRST + MORE + 2, 90)
        assert len(current(deployment, INSTANCE_SHADOWED)) == FIRST + MORE
        assert deployment.account().doubled == 0
        assert deployment.open_entries() == []
