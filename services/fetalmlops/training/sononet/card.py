"""Card and notice of the bundle for real images, with the figures of this very training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["NOTICE", "sononet_card"]

NOTICE: Final = """\
# Notice

The network in `model.onnx` is derived from **SonoNet-16**, published under the Apache License 2.0 by its authors:
C. F. Baumgartner, K. Kamnitsas, J. Matthew, T. P. Fletcher, S. Smith, L. M. Koch, B. Kainz and D. Rueckert, "SonoNet:
Real-Time Detection and Localisation of Fetal Standard Scan Planes in Freehand Ultrasound", IEEE Transactions on Medical
Imaging 36(11), 2017, arXiv:1612.05601.

Changed: batch normalisations and the scale of the input are folded into the convolutions; the 14 outputs are summed in
groups and given to two heads with a linear part each; the pooled activations of the last two blocks are outputs too. The
values of the convolutions are otherwise those published.

The heads, the temperature, the thresholds and the out-of-scope reference were fitted on images of **FETAL_PLANES_DB**
(X. P. Burgos-Artizzu et al., Scientific Reports 10:10200, 2020, Zenodo 3904280, CC BY 4.0) and of **HC18** (T. L. A. van
den Heuvel et al., PLoS ONE 13(8), 2018, Zenodo 1327317, CC BY 4.0). None of their images is here: the reference frames
are simulated phantoms.
"""

_TEMPLATE = """\
# {name} {version}: release status {status}

**Fitted on {images:.0f} real images of {patients:.0f} patients and on {hc18} brain images of another hospital. That is far
too little to rely on. For trying the software on real images, not for care, nor for research results.**

## Task and indication
Tells which of six planes ({planes}) an image shows, and for a brain which view ({brain_planes}). Intended use: trying the
software on real images, and a start for fine-tuning on one's own. Not intended: any use that a person's care depends on.

## Data
{sources}

All were normalised by the pipeline `{pipeline}`, the one that serves. Data digest `{data_digest}`.

## Model and training
SonoNet-16, frozen; {parameters:,} parameters, input {rows} x {columns} grey pixels of the sector, stretched. Its published
head's odds, summed over the views that stand for a plane, times a gain, and a linear part on the logarithm of its pooled 64
adaptation channels, fitted by strongly shrunken logistic regression. Recipe `{recipe}`, seed {seed}, {seconds:.0f} s on a CPU;
the recipe was committed before it scored an image.

Energy of the training: {energy}.

## Figures
Every image of FETAL_PLANES_DB was judged by a fit that had seen no image of its patient, and temperature, threshold and
out-of-scope limit were decided without that patient too. `_low` and `_high` are Wilson 95 % intervals over images; images of
one patient are alike, so the truth is less certain than they say.

{metrics}

The brain views have {brain_images:.0f} labels: no view is ever accepted, every brain result asks for review. The head is
little more than the published one's cerebellum or not, and the views' shares in FETAL_PLANES_DB.

## Calibration and selective prediction
Temperature {temperature:.3f} for planes, none for brain views. A result is accepted from a probability of {accept:.2f} on,
and while the out-of-scope score is at most {ood_limit:g}.

## Explanations
Each cell's share of the logit: the published maps of a plane's views, and activations times weight, each channel scaled by
log1p(p) / p of its pooled activation p. The shares' mean is the logit. They show what moved the model, and are no statement
about anatomy.

## Limits
Foreign is what lies far from the few images it was fitted on: scanners and planes of another kind are often called out of
scope. Early pregnancy, twins and abnormal anatomy were not looked at.

Licence: {licence}; see notice.md.
"""


def sononet_card(manifest: Manifest) -> str:
    """Return the card of the bundle for real images, Markdown."""
    provenance, decision = manifest.provenance, manifest.decision
    figures = next(iter(manifest.metrics.values()))
    return _TEMPLATE.format(
        name=manifest.name,
        version=manifest.version,
        status=manifest.release_status,
        images=figures["images"],
        patients=figures["patients"],
        hc18=f"{figures['other_images']:.0f}",
        planes=", ".join(manifest.planes),
        brain_planes=", ".join(manifest.brain_planes),
        sources="\n".join(f"- {source.name} ({source.licence}): {source.description}" for source in manifest.sources),
        pipeline=manifest.pipeline.name,
        parameters=manifest.parameters,
        rows=manifest.input.rows,
        columns=manifest.input.columns,
        recipe=provenance.recipe,
        seed=provenance.seed,
        seconds=provenance.seconds,
        data_digest=provenance.data_digest[:16],
        energy=_energy_line(manifest),
        metrics=_metrics_table(manifest.metrics),
        brain_images=figures.get("brain_images", 0),
        temperature=manifest.calibration.temperature,
        accept=decision.accept,
        ood_limit=decision.ood_limit,
        licence=manifest.licence,
    )


def _energy_line(manifest: Manifest) -> str:
    """Return what the training took, in words."""
    energy = manifest.provenance.energy
    if energy.kwh is None or energy.co2e_g is None:
        return f"{energy.method} ({energy.tool})"
    return f"{energy.kwh:.4f} kWh, {energy.co2e_g:.2f} g CO2e ({energy.method}: {energy.tool})"


def _metrics_table(metrics: dict[str, dict[str, float]]) -> str:
    """Return the figures as a Markdown table."""
    rows = [f"| {data} | {name} | {value:.4g} |" for data, values in metrics.items() for name, value in values.items()]
    return "\n".join(["| data | figure | value |", "|---|---|---|", *rows])
