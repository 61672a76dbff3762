"""The model card: a manifest in words, in the order of CALIB-XFUS's six domains. What the manifest lacks is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.models.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fetalmlops.domain.models.evidence import Evidence, PrecisionGate
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["NOT_AVAILABLE", "model_card"]

NOT_AVAILABLE: Final = "not available"
"""What the card says where the manifest says nothing."""

_SHORT: Final = 16
_STATUS: Final = {
    ReleaseStatus.DEMONSTRATION: "**Worth nothing on patients. It exists to prove that the system works: show its results to "
    "nobody who might act on them.**",
    ReleaseStatus.CANDIDATE: "**A candidate: not validated, not for decisions about patients.**",
    ReleaseStatus.VALIDATED: "Validated against its intended use; see the figures.",
    ReleaseStatus.UNKNOWN: "**Its release status is unknown to this version: treat it as not validated.**",
}


def model_card(manifest: Manifest, digest: str = "") -> str:
    """Return the card of a bundle.

    Parameters
    ----------
    manifest
        Its manifest.
    digest
        The bundle's digest; empty to leave it out, as within the bundle itself.

    Returns
    -------
    str
        Markdown. The same manifest gives the same card.
    """
    sections = {
        "1. Task and indication": _task(manifest),
        "2. Dataset provenance": _data(manifest),
        "3. Model and training": _model(manifest),
        "4. Calibration and selective prediction": _calibration(manifest),
        "5. Explanation faithfulness and clinician validation": _explanation(manifest),
        "6. Post-market surveillance": _surveillance(manifest),
    }
    head = [
        f"# {manifest.name} {manifest.version}: release status {manifest.release_status}",
        _STATUS[manifest.release_status],
    ]
    if digest:
        head.append(f"Bundle `{digest}`.")
    body = [part for title, lines in sections.items() for part in (f"## {title}", "\n".join(lines))]
    return "\n\n".join([*head, *body]) + "\n"


def _task(manifest: Manifest) -> Iterator[str]:
    use = manifest.evidence.intended_use
    brain = f", and of a brain which view ({', '.join(manifest.brain_planes)})" if manifest.brain_planes else ""
    yield f"Tells which plane a fetal ultrasound image shows ({', '.join(manifest.planes)}){brain}."
    yield ""
    yield f"- Intended use: {use.text if use else NOT_AVAILABLE}"
    yield f"- Population: {use.population if use and use.population else NOT_AVAILABLE}"
    yield f"- Forbidden uses: {'; '.join(use.forbidden) if use and use.forbidden else NOT_AVAILABLE}"
    yield f"- Judged by the intended use {_digest(use.digest if use else None)}"
    if never := manifest.evidence.planes_never_named:
        yield f"- Planes that it never names: {', '.join(never)}"
    yield f"- Not available in its results: {', '.join(manifest.lacking) or 'nothing'}"


def _data(manifest: Manifest) -> Iterator[str]:
    rows = [
        (
            entry.name,
            entry.role,
            *(NOT_AVAILABLE if count is None else str(count) for count in (entry.images, entry.patients)),
            entry.licence or NOT_AVAILABLE,
            entry.digest[:_SHORT],
        )
        for entry in manifest.evidence.data
    ]
    yield from _table(
        ("data", "role", "images", "patients", "licence", "digest"), rows, "Data sets with their manifests"
    )
    yield ""
    yield from _table(
        ("source", "licence", "what"),
        [(source.name, source.licence, source.description) for source in manifest.sources],
        "Sources",
    )
    yield ""
    yield f"Digest over the training images and labels: `{manifest.provenance.data_digest[:_SHORT]}`."


def _model(manifest: Manifest) -> Iterator[str]:
    provenance, spec, evidence = manifest.provenance, manifest.input, manifest.evidence
    yield f"- Parameters: {manifest.parameters:,}; input {spec.rows} x {spec.columns} grey pixels, {spec.fit}"
    yield f"- Outputs: {', '.join(manifest.outputs)}"
    yield f"- Normalisation: `{manifest.pipeline.name}`, digest `{manifest.pipeline.digest[:_SHORT]}`"
    yield f"- Recipe: `{provenance.recipe}`, seed {provenance.seed}, digest {_digest(evidence.recipe_digest)}"
    yield f"- Code: {provenance.code}, digest {_digest(evidence.code_digest)}"
    environment = ", ".join(f"{name} {version}" for name, version in sorted(provenance.environment.items()))
    yield f"- Environment: {environment or NOT_AVAILABLE}"
    yield f"- Energy of the training: {_energy(manifest)}; of an image in serving: {_serving(evidence)}"
    yield f"- Licence: {manifest.licence}"
    yield ""
    head = ("precision", "tolerance", "same plane as f32", "same decision", "macro-F1 lost", "recall lost at worst",
            "images", "patients", "gate")  # fmt: skip
    yield from _table(head, _precisions(manifest), "Precisions")
    yield ""
    yield from _table(("data", "figure", "value", "interval", "images", "patients"), _figures(manifest), "Figures")


def _calibration(manifest: Manifest) -> Iterator[str]:
    calibration, rule, evidence = manifest.calibration, manifest.decision, manifest.evidence
    brain = f", brain views {calibration.brain_temperature:.3f}" if manifest.brain_planes else ""
    yield f"- Temperatures: planes {calibration.temperature:.3f}{brain}"
    also = f" (brain views {rule.accept_brain:.3f})" if manifest.brain_planes else ""
    yield f"- Accepted from a probability of {rule.accept:.3f}{also} on; contrast at least {rule.least_contrast:g}"
    yield (
        f"- Out of scope above a score of {rule.ood_limit:g}"
        if manifest.ood
        else f"- Out-of-scope score: {NOT_AVAILABLE}"
    )
    alarms = ", ".join(f"{name} {share:.3f}" for name, share in sorted(evidence.false_alarms.items()))
    yield f"- False alarms of it on images in scope, by source: {alarms or NOT_AVAILABLE}"
    yield ""
    rows = [
        (name, f"{entry.threshold:.3f}", f"{entry.target:g}", f"{entry.bound:.3f} at {entry.level:g}",
         f"{entry.errors} of {entry.patients}", f"{entry.coverage:.3f}", "yes" if entry.met else "no")
        for name, entry in sorted(evidence.thresholds.items())
    ]  # fmt: skip
    head = ("head", "threshold", "target risk", "upper bound", "patients with an error", "coverage", "within target")
    yield from _table(head, rows, "Selective risk by patient, with its bound")


def _explanation(manifest: Manifest) -> Iterator[str]:
    if "maps" in manifest.outputs:
        yield "Class-activation maps of the same forward pass: shares of the logit, no statement about anatomy. They show what"
        yield "influenced the model, not proof."
    else:
        yield f"Maps: {NOT_AVAILABLE}."
    yield ""
    figures = [(name, f"{value:.4g}") for name, value in sorted(manifest.evidence.faithfulness.items())]
    yield from _table(("figure", "value"), figures, "Faithfulness")
    yield ""
    yield f"Validation by clinicians: {NOT_AVAILABLE}."


def _surveillance(manifest: Manifest) -> Iterator[str]:
    drift = manifest.evidence.drift
    if drift is None:
        yield f"- Drift references: {NOT_AVAILABLE}"
    else:
        yield f"- Drift references: {', '.join(sorted(drift.quality))} of {drift.images} images"
        shares = ", ".join(f"{name} {share:.3f}" for name, share in drift.class_prior.items())
        yield f"- Shares of the planes: {shares}"
    if manifest.release_status is ReleaseStatus.DEMONSTRATION:
        yield "- A demonstration bundle passes the technical gates only and never replaces a candidate or validated one"
    yield f"- Adapted from: {_digest(manifest.evidence.adapted_from)}"


def _figures(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    estimates = manifest.evidence.figures
    for data, values in sorted(manifest.metrics.items()):
        for name, value in sorted(values.items()):
            if name not in estimates.get(data, {}):
                yield data, name, f"{value:.4g}", NOT_AVAILABLE, NOT_AVAILABLE, NOT_AVAILABLE
    for data, found in sorted(estimates.items()):
        for name, each in sorted(found.items()):
            interval = f"{each.low:.4g} to {each.high:.4g} ({each.level:g})"
            yield data, name, f"{each.value:.4g}", interval, str(each.images), str(each.patients)


def _precisions(manifest: Manifest) -> Iterator[tuple[str, ...]]:
    variants, gates = manifest.variants, manifest.evidence.gates
    for name in sorted({*map(str, variants), *gates}):
        gate, variant = gates.get(name), variants.get(Precision(name))
        tolerance = f"{variant.tolerance:g}" if variant else "not in this bundle"
        yield name, tolerance, *(_gate(gate) if gate else [NOT_AVAILABLE] * 7)


def _gate(gate: PrecisionGate) -> Iterator[str]:
    low = "" if gate.agreement_low is None else f" (bound {gate.agreement_low:.4g})"
    yield f"{gate.agreement:.4g}{low}"
    yield from (
        NOT_AVAILABLE if each is None else f"{each:.4g}" for each in (gate.decision_agreement, gate.macro_f1_loss)
    )
    yield NOT_AVAILABLE if gate.worst_plane_loss is None else f"{gate.worst_plane_loss:.4g} ({gate.worst_plane})"
    yield str(gate.images)
    yield str(gate.patients) if gate.patients else NOT_AVAILABLE
    yield "passed" if gate.passed else f"failed: {', '.join(gate.missed) or NOT_AVAILABLE}"


def _energy(manifest: Manifest) -> str:
    energy = manifest.provenance.energy
    if energy.kwh is None or energy.co2e_g is None:
        return NOT_AVAILABLE
    return f"{energy.kwh:.4f} kWh, {energy.co2e_g:.2f} g CO2e ({energy.method}: {energy.tool})"


def _serving(evidence: Evidence) -> str:
    return NOT_AVAILABLE if evidence.serving_joules is None else f"{evidence.serving_joules:.3g} J (modelled)"


def _digest(value: str | None) -> str:
    return f"`{value[:_SHORT]}`" if value else NOT_AVAILABLE


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Iterator[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not lines:
        yield f"{title}: {NOT_AVAILABLE}."
        return
    yield f"{title}:"
    yield ""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from lines
