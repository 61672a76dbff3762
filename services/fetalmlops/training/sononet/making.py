"""From images and published weights to a sealed bundle with its figures."""

from __future__ import annotations

import io
import platform
import sys
import time
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import numpy as np
import torch

from fetalmlops import __version__
from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError, ObjectMissingError
from fetalmlops.domain.learning.provenance import record_of
from fetalmlops.domain.models.manifest import Calibration, DecisionRule, Provenance
from fetalmlops.domain.models.ood import OodReference
from fetalmlops.training.energy import energy_meter
from fetalmlops.training.sononet.features import Features, featurise, featurise_images
from fetalmlops.training.sononet.figures import auroc, decide_on, left_out_figures, metadata_baseline, share
from fetalmlops.training.sononet.fitting import (
    Fitted,
    LeftOut,
    Material,
    fit,
    fit_ood_reference,
    leave_out,
    leave_out_distances,
)
from fetalmlops.training.sononet.foreign import foreign_screens
from fetalmlops.training.sononet.heads import Views
from fetalmlops.training.sononet.images import (
    Image,
    digest,
    normalised,
    read_brain_prior,
    read_fetal_planes,
    read_hc18,
)
from fetalmlops.training.sononet.network import PLANE_GROUPS, SonoNetPlanes, load_trunk
from fetalmlops.training.sononet.sealing import Made, seal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import Energy
    from fetalmlops.training.sononet.figures import Decided
    from fetalmlops.training.sononet.recipe import Recipe

__all__ = ["Sources", "make_bundle", "say"]

Figures = dict[str, dict[str, float]]
# What torch's unpickler raises on bytes that are something else.
_UNREADABLE = (UnpicklingError, EOFError, RuntimeError, LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, eq=False)
class Sources:
    """What goes into the bundle.

    Parameters
    ----------
    fetal_planes
        Images of FETAL_PLANES_DB.
    hc18, hc18_held_out
        Images of HC18 that are fitted on, and of other patients that are not.
    brain_prior
        Shares of the brain sub-planes, [brain planes].
    network
        SonoNet-16 under heads that are not fitted yet.
    """

    fetal_planes: Sequence[Image]
    hc18: Sequence[Image]
    hc18_held_out: Sequence[Image]
    brain_prior: NDArray[np.float64]
    network: SonoNetPlanes

    @classmethod
    def read(cls, images: Path, hc18: Path, weights: Path) -> Sources:
        """Read data sets and weights.

        Raises
        ------
        ObjectMissingError
            If one of them is missing; the text says what was expected.
        ContractError
            If the weights are not SonoNet-16's.
        """
        network = SonoNetPlanes().eval()
        load_trunk(network, _state(weights))
        learnt, held_out = read_hc18(hc18)
        return cls(read_fetal_planes(images), learnt, held_out, read_brain_prior(images), network)


def _state(path: Path) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        msg = "Expected SonoNet16.pth, the published weights of SonoNet-16, at --weights, got none; fetch them"
        raise ObjectMissingError(msg) from None
    except _UNREADABLE:
        msg = "Expected a state dict of torch at --weights, got another file; give the published SonoNet16.pth"
        raise ContractError(msg, reason="weights") from None
    return state


def make_bundle(sources: Sources, seed: int, recipe: Recipe) -> dict[str, bytes]:
    """Fit, measure, seal and check; return the bundle's files.

    Parameters
    ----------
    sources
        Images and weights.
    seed
        Seed of augmentations, foreign images and the baseline.
    recipe
        All that is chosen by hand.
    """
    started = time.monotonic()
    with energy_meter() as meter, torch.random.fork_rng():
        torch.set_num_threads(1)
        images = [*sources.fetal_planes, *sources.hc18]
        features = featurise_images(sources.network, images, recipe.augmentations, seed)
        say(f"{len(images)} images, {recipe.augmentations} copies each: {time.monotonic() - started:.0f} s")
        material = Material(images, features, sources.brain_prior, Views.of(sources.network))
        left = leave_out(material, recipe)
        fitted = fit(material, recipe)
    seconds = time.monotonic() - started
    decided = decide_on(material.planes, material.sources, left, recipe, _judged(material))
    made = Made(
        network=_with_heads(sources.network, fitted),
        ood=OodReference(fitted.ood.means, fitted.ood.whitening, decided.scale),
        calibration=Calibration(temperature=decided.temperature),
        decision=DecisionRule(accept=round(decided.accept, 4), accept_brain=recipe.accept_brain),
        metrics=_figures(sources, material, left, fitted, decided, recipe, seed),
        provenance=_provenance(images, seed, seconds, meter.energy),
        # The published trunk learnt from images that nobody here knows.
        record=record_of(images, complete=False),
    )
    return seal(made, seed, recipe.serving_runs)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"{text}\n")


def _judged(material: Material) -> NDArray[np.bool_]:
    """Return which images the figures are of: those of the data set that has every plane."""
    return np.asarray(material.sources == material.sources[0])


def _with_heads(network: SonoNetPlanes, fitted: Fitted) -> SonoNetPlanes:
    with torch.no_grad():
        for layer, head in ((network.plane_head, fitted.head), (network.brain_head, fitted.brain_head)):
            layer.gain.fill_(head.gain)
            layer.residual.weight.copy_(torch.from_numpy(head.weight))
            layer.residual.bias.copy_(torch.from_numpy(head.bias))
    return network


def _figures(
    sources: Sources,
    material: Material,
    left: LeftOut,
    fitted: Fitted,
    decided: Decided,
    recipe: Recipe,
    seed: int,
) -> Figures:
    judged = _judged(material)
    held_out = featurise_images(sources.network, sources.hc18_held_out, 0, seed)
    inside = np.concatenate([left.distances[judged], fitted.ood.distance(held_out.pooled[:, 0])])
    return {
        "FETAL_PLANES_DB (left-out patients)": left_out_figures(material, left, recipe, judged),
        "FETAL_PLANES_DB (scanner and screen size only)": metadata_baseline(sources.fetal_planes, seed),
        "HC18 (held-out patients)": _held_out_figures(held_out, fitted, decided, material.views),
        **_left_out_sources(material, recipe),
        **_foreign_figures(sources.network, fitted, decided, inside, recipe, seed),
    }


def _held_out_figures(held_out: Features, fitted: Fitted, decided: Decided, views: Views) -> dict[str, float]:
    """Return what the final fit says of brains of another hospital, patients that it never saw."""
    embedding, pooled = held_out.embedding[:, 0], held_out.pooled[:, 0]
    said = fitted.head.logits(views.odds(embedding, PLANE_GROUPS), embedding).argmax(axis=1)
    outside = fitted.ood.distance(pooled) > decided.scale
    return {
        "images": float(len(said)),
        **share("called_brain", said == PLANES.index("brain")),
        **share("out_of_scope", outside),
    }


def _left_out_sources(material: Material, recipe: Recipe) -> Figures:
    """Return how many images of a data set are flagged if it is left out as a whole, the scale set by the other one."""
    figures = {}
    for source in np.unique(material.sources):
        out = material.sources == source
        others = material.of(~out)
        scale = np.quantile(leave_out_distances(others, recipe), recipe.ood_quantile)
        distances = fit_ood_reference(others.features.pooled, recipe).distance(material.features.pooled[out, 0])
        figures[f"{source} (source left out)"] = share("out_of_scope", distances > scale)
    return figures


def _foreign_figures(
    network: SonoNetPlanes,
    fitted: Fitted,
    decided: Decided,
    inside: NDArray[np.float64],
    recipe: Recipe,
    seed: int,
) -> Figures:
    figures = {}
    for kind, screens in foreign_screens(recipe.foreign, seed).items():
        pooled = featurise(network, [normalised(screen) for screen in screens]).pooled[:, 0]
        distances = fitted.ood.distance(pooled)
        figures[f"no ultrasound: {kind}"] = {
            "area_under_roc": auroc(inside, distances),
            "out_of_scope": float((distances > decided.scale).mean()),
        }
    return figures


def _provenance(images: Sequence[Image], seed: int, seconds: float, energy: Energy) -> Provenance:
    return Provenance(
        recipe="fetalmlops.training.sononet",
        code=__version__,
        seed=seed,
        data_digest=digest(images),
        environment={"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
        seconds=round(seconds, 1),
        energy=energy,
    )
