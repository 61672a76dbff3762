"""Sealing: network, reference, card and notice become a bundle, whose serving is measured before it is final."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, ReleaseStatus
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.phantoms.scanners import SCANNERS_OF
from fetalmlops.domain.learning.provenance import IMAGES_FILE
from fetalmlops.domain.models.bundle import Bundle, Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.evidence import Evidence
from fetalmlops.domain.models.manifest import Manifest, Precision, SourceEntry, Variant
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.domain.simulation import Burned, find_scanner, render
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.training.energy import energy_meter
from fetalmlops.training.networks.sononet import EMBEDDING_LENGTH
from fetalmlops.training.sononet.card import NOTICE, sononet_card
from fetalmlops.training.sononet.export import export_sononet
from fetalmlops.training.sononet.images import PIPELINE
from fetalmlops.training.sononet.recipe import INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.provenance import ImageRecord
    from fetalmlops.domain.models.manifest import Calibration, DecisionRule, Provenance
    from fetalmlops.domain.models.ood import OodReference
    from fetalmlops.training.sononet.network import SonoNetPlanes

__all__ = ["Made", "seal"]

NAME: Final = "fetal-planes"
VERSION: Final = "2.0.0"
_NETWORK = "model.onnx"
_OOD = "ood.safetensors"
_NOTICE = "notice.md"
_TOLERANCES: Final = {Precision.F32: 0.001, Precision.BF16: 0.05}
_REFERENCE_IMAGES = 4
_CALIPERS = 0.3
_REFERENCE_SIZE = (150, 200)
_JOULES_PER_KWH = 3.6e6

SOURCES: Final = [
    SourceEntry(
        name="SonoNet-16",
        licence="Apache-2.0",
        description="weights by Baumgartner et al., IEEE TMI 36(11), 2017; batch normalisations folded, heads added",
    ),
    SourceEntry(
        name="FETAL_PLANES_DB",
        licence="CC-BY-4.0",
        description="Burgos-Artizzu et al., Sci Rep 10:10200, 2020, Zenodo 3904280: some of its images, none is here",
    ),
    SourceEntry(
        name="HC18",
        licence="CC-BY-4.0",
        description="van den Heuvel et al., PLoS ONE 13(8), 2018, Zenodo 1327317: some of its brain images, none is here",
    ),
]
"""Where the model comes from."""


@dataclass(frozen=True, eq=False)
class Made:
    """All that a bundle is sealed from."""

    network: SonoNetPlanes
    ood: OodReference
    calibration: Calibration
    decision: DecisionRule
    metrics: dict[str, dict[str, float]]
    provenance: Provenance
    record: ImageRecord


def seal(made: Made, seed: int, runs: int) -> dict[str, bytes]:
    """Return the files of a bundle that engines have reproduced, the figures of its serving among its metrics.

    A precision that this machine lacks, or that changes the probabilities too much, is left out.

    Parameters
    ----------
    made
        What was fitted and measured.
    seed
        Seed of the phantoms that its reference shows.
    runs
        Inferences over which serving is measured.

    Raises
    ------
    ContractError
        If the engine does not reproduce the network in f32.
    """
    reference = _reference(made, seed)
    bundle = load_bundle(_sealed(made, reference, _TOLERANCES))
    figures = {Precision.F32: _serving_figures(bundle, Precision.F32, runs)}
    with suppress(ContractError, SettingsError):
        figures[Precision.BF16] = _serving_figures(bundle, Precision.BF16, runs)
    named = {f"serving on one thread, {precision}": values for precision, values in figures.items()}
    tolerances = {precision: _TOLERANCES[precision] for precision in figures}
    return _sealed(replace(made, metrics=made.metrics | named), reference, tolerances)


def _sealed(made: Made, reference: Reference, tolerances: Mapping[Precision, float]) -> dict[str, bytes]:
    manifest = Manifest(
        name=NAME,
        version=VERSION,
        release_status=ReleaseStatus.DEMONSTRATION,
        licence="Apache-2.0",
        parameters=sum(parameter.numel() for parameter in made.network.parameters()),
        planes=[*PLANES],
        brain_planes=[*BRAIN_PLANES],
        pipeline=PIPELINE,
        input=INPUT,
        calibration=made.calibration,
        decision=made.decision,
        embedding_length=EMBEDDING_LENGTH,
        variants={precision: Variant(file=_NETWORK, tolerance=value) for precision, value in tolerances.items()},
        weights=_NETWORK,
        ood=_OOD,
        metrics=made.metrics,
        sources=SOURCES,
        provenance=made.provenance,
        evidence=Evidence(images_file=IMAGES_FILE),
    )
    files = {
        _NETWORK: export_sononet(made.network, INPUT.rows, INPUT.columns),
        _OOD: made.ood.to_bytes(),
        manifest.reference: reference.to_bytes(),
        manifest.card: sononet_card(manifest).encode(),
        _NOTICE: NOTICE.encode(),
        IMAGES_FILE: made.record.to_bytes(),
    }
    return seal_bundle(manifest, files)


def _reference(made: Made, seed: int) -> Reference:
    """Return phantoms with the network's answers: right or wrong, an engine must give the same."""
    frames = np.stack([_phantom(seed, index) for index in range(_REFERENCE_IMAGES)])
    with torch.inference_mode():
        outputs = made.network(torch.from_numpy(prepare(frames, INPUT).batch)[:, None])
    planes = softmax(outputs.logits.numpy(), made.calibration.temperature)
    brain_planes = softmax(outputs.brain_logits.numpy(), made.calibration.brain_temperature)
    return Reference(frames, planes.astype(np.float32), brain_planes.astype(np.float32))


def _phantom(seed: int, index: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((seed, 2, index))
    brain_plane = BRAIN_PLANES[0] if PLANES[index] == "brain" else None
    scanners = SCANNERS_OF[Split.TEST]
    burned = Burned(calipers=bool(rng.random() < _CALIPERS))
    screen = render(
        PLANES[index], find_scanner(scanners[index % len(scanners)]), rng, brain_plane=brain_plane, burned=burned
    )
    region = screen.region
    sector = Box(top=region.y0, left=region.x0, bottom=region.y1 + 1, right=region.x1 + 1)
    frame = find_pipeline(PLAIN).run_array(screen.pixels, sector=sector).frames[0]
    return np.asarray(cv2.resize(frame, _REFERENCE_SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _serving_figures(bundle: Bundle, precision: Precision, runs: int) -> dict[str, float]:
    engine = OpenVinoEngine(bundle, threads=1, precision=precision)
    difference = check_engine(bundle, engine)
    batch = prepare(bundle.reference.frames[:1], bundle.manifest.input).batch
    seconds = np.empty(runs)
    with energy_meter() as meter:
        for run in range(runs):
            started = time.perf_counter()
            engine.infer(batch)
            seconds[run] = time.perf_counter() - started
    figures = {
        "largest_difference_of_a_probability": difference,
        "milliseconds_median": 1000 * float(np.median(seconds)),
        "milliseconds_least": 1000 * float(seconds.min()),
    }
    if meter.energy.kwh is not None:
        figures["joules_per_image_modelled"] = meter.energy.kwh * _JOULES_PER_KWH / runs
    return figures
