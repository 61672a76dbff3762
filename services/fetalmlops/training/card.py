"""The card of the demonstration bundle: what it is worth, in plain words, with the figures of this very training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["demonstration_card"]

_TEMPLATE = """\
# {name} {version}: release status {status}

**Trained on synthetic phantoms only. Worth nothing on patients. It exists to prove that the system works.**

It never saw an ultrasound image. Its figures below are those of drawings that the same program made, and say nothing
about any clinic, scanner or population. Show its results to nobody who might act on them.

## Task and indication
Tells which of six planes ({planes}) a drawing shows, and for a brain which view ({brain_planes}). Intended use: tests,
demonstrations and benchmarks of the software. Not intended: any use on images of patients, research on them included.

## Data
Phantoms of `fetalmlops.domain.simulation`, rendered by simulated scanners. Validation (temperature, thresholds, limit of
the out-of-scope score) and test use scanners that training never saw. {sources}

## Model and training
Residual convolutional network, {parameters:,} parameters, input {rows} x {columns} grey pixels, global average pooling,
two linear heads. Recipe `{recipe}`, seed {seed}, {seconds:.0f} s on a CPU. Data digest `{data_digest}`.

Energy: {energy}.

## Figures on phantoms
{metrics}

## Calibration and selective prediction
Temperatures {temperature:.3f} (planes) and {brain_temperature:.3f} (brain views). A result is accepted from a probability
of {accept:.2f} (planes) and {accept_brain:.2f} (brain views) on, and while the out-of-scope score is at most {ood_limit:g}.

## Explanations
Class-activation maps of the same forward pass: exact shares of the logit, no statement about anatomy.

## Surveillance
None: a demonstration bundle passes the technical gates only and never replaces a candidate or validated one.

Licence: {licence}.
"""


def demonstration_card(manifest: Manifest) -> str:
    """Return the card of a demonstration bundle, Markdown."""
    provenance, decision = manifest.provenance, manifest.decision
    return _TEMPLATE.format(
        name=manifest.name,
        version=manifest.version,
        status=manifest.release_status,
        planes=", ".join(manifest.planes),
        brain_planes=", ".join(manifest.brain_planes),
        sources=" ".join(f"{source.name}: {source.description}" for source in manifest.sources),
        parameters=manifest.parameters,
        rows=manifest.input.rows,
        columns=manifest.input.columns,
        recipe=provenance.recipe,
        seed=provenance.seed,
        seconds=provenance.seconds,
        data_digest=provenance.data_digest[:16],
        energy=_energy(manifest),
        metrics=_table(manifest.metrics),
        temperature=manifest.calibration.temperature,
        brain_temperature=manifest.calibration.brain_temperature,
        accept=decision.accept,
        accept_brain=decision.accept_brain,
        ood_limit=decision.ood_limit,
        licence=manifest.licence,
    )


def _energy(manifest: Manifest) -> str:
    energy = manifest.provenance.energy
    if energy.kwh is None or energy.co2e_g is None:
        return f"{energy.method} ({energy.tool})"
    return f"{energy.kwh:.4f} kWh, {energy.co2e_g:.2f} g CO2e ({energy.method}: {energy.tool})"


def _table(metrics: dict[str, dict[str, float]]) -> str:
    rows = [f"| {data} | {name} | {value:.4g} |" for data, values in metrics.items() for name, value in values.items()]
    return "\n".join(["| data | figure | value |", "|---|---|---|", *rows])
