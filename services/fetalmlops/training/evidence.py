"""The evidence that a training leaves in its bundle: all of it measured on this training's own data, or not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.provenance import ROLES
from fetalmlops.domain.learning.summary import part, summarise_predictions
from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
from fetalmlops.domain.models.evidence import DataEntry, Estimate, Evidence, UseStatement
from fetalmlops.domain.models.manifest import MANIFEST_NAME
from fetalmlops.domain.models.ood import false_alarms
from fetalmlops.domain.models.selective import judge_threshold
from fetalmlops.platform.energy.meter import modelled_rate
from fetalmlops.platform.learning.evaluation import Evaluator
from fetalmlops.platform.learning.explaining import try_explanations
from fetalmlops.platform.learning.fitting import observe, sources_of, with_drift
from fetalmlops.platform.settings import EnergySettings
from fetalmlops.training.code import code_digest
from fetalmlops.training.precisions import add_precisions
from fetalmlops.training.recipe import recipe_digest
from fetalmlops.training.sealing import seal_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.intervals import Estimate as Interval
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.manifest import DecisionRule, Provenance, SourceEntry
    from fetalmlops.training.loading.frames import DataSource, Frames
    from fetalmlops.training.recipe import Recipe
    from fetalmlops.training.sealing import Judged

__all__ = ["Judge", "evidence_of", "seal_judged", "with_trials"]

_DRIFT_IMAGES: Final = 400
_EXPLAINED: Final = 24


@dataclass(frozen=True)
class Judge:
    """An intended use, and its digest: by it a training's outcome is judged."""

    use: IntendedUse
    digest: str


def seal_judged(
    judged: Judged,
    recipe: Recipe,
    provenance: Provenance,
    sources: Sequence[SourceEntry],
    data: DataSource,
    frames: Frames,
    judge: Judge,
) -> dict[str, bytes]:
    """Return the files of a bundle with its evidence, and with the precisions that keep the limits of the intended use.

    Parameters
    ----------
    judged, recipe, provenance, sources
        As `fetalmlops.training.sealing.seal_network`.
    data, frames
        The data set, and its prepared frames.
    judge
        The intended use.
    """
    said = judged.predictions
    evidence = evidence_of(recipe, data, said, judged.decision, judge)
    files = seal_network(judged, recipe, provenance, sources, evidence)
    files = with_trials(files, data, said[Split.VALIDATION], recipe.seed)
    return add_precisions(files, frames, judge.use, recipe.seed)


def evidence_of(
    recipe: Recipe, data: DataSource, predictions: Mapping[Split, Predictions], rule: DecisionRule, judge: Judge
) -> Evidence:
    """Return what is known once a network has been judged: digests, data, figures with intervals, false alarms.

    Parameters
    ----------
    recipe, data
        What the network was made by and from.
    predictions
        What it says of the validation images and, where there are some, the test images.
    rule
        Its thresholds.
    judge
        The intended use.
    """
    use = judge.use
    sampling = Sampling(seed=recipe.seed, level=use.accuracy.interval)
    # Limit and threshold were set on the validation images: others tell better what they cost.
    seen = predictions.get(Split.TEST, predictions[Split.VALIDATION])
    sure, right = seen.probabilities.max(axis=1), seen.probabilities.argmax(axis=1) == seen.labels
    return Evidence(
        intended_use=UseStatement(
            text=" ".join(use.purpose.statement.split()),
            population=" ".join(use.population.statement.split()),
            forbidden=[each.use for each in use.forbidden],
            digest=judge.digest,
        ),
        data=_entries(data),
        code_digest=code_digest(),
        recipe_digest=recipe_digest(recipe),
        thresholds={"planes": judge_threshold(rule.accept, sure, right, seen.patients, target=use.selective.risk)},
        false_alarms=false_alarms(seen.ood, sources_of(seen.images), rule.ood_limit),
        figures={str(split): _figures(each, rule, use, sampling) for split, each in predictions.items()},
    )


def with_trials(files: Mapping[str, bytes], data: DataSource, validation: Predictions, seed: int) -> dict[str, bytes]:
    """Return the files of a bundle whose evidence has figures of its explanations, references of drift and energy, too.

    All come from validation images, drawn by the seed, that go from their files through the way of serving.
    """
    bundle = load_bundle(files)
    drawn = np.random.default_rng(seed).permutation(len(validation))
    sample = part(validation, np.sort(drawn[:_EXPLAINED]))
    explained = try_explanations(Evaluator(bundle), data, sample, Sampling(seed=seed))
    seen = [validation.images[index] for index in np.sort(drawn[:_DRIFT_IMAGES])]
    observed = observe(bundle, data, seen, purpose="references of drift")
    drift, drift_files = with_drift(observed)
    evidence = msgspec.structs.replace(
        bundle.manifest.evidence,
        faithfulness={name: each.value for name, each in explained.items() if each.value is not None},
        serving_joules=round(observed.cpu_s * modelled_rate(EnergySettings()).watts, 6),
        **drift,
    )
    contents = {name: content for name, content in files.items() if name != MANIFEST_NAME}
    return seal_bundle(msgspec.structs.replace(bundle.manifest, evidence=evidence), contents | drift_files)


def _entries(data: DataSource) -> list[DataEntry]:
    manifest = data.manifest
    by_split = {split: [each for each in manifest.of(split) if each.plane is not None] for split in ROLES}
    return [
        DataEntry(
            name=manifest.name,
            role=ROLES[split],
            digest=data.digest,
            images=len(images),
            patients=len({image.patient for image in images}),
            licence=manifest.licence,
        )
        for split, images in by_split.items()
        if images
    ]


def _figures(predictions: Predictions, rule: DecisionRule, use: IntendedUse, sampling: Sampling) -> dict[str, Estimate]:
    summary = summarise_predictions(predictions, rule, target_risk=use.selective.risk, sampling=sampling)
    found = dict(summary.figures)
    for kind, classes in (("recall", summary.planes), ("brain_recall", summary.brain_planes)):
        found |= {f"{kind}: {name}": each.recall for name, each in classes.items()}
    return {name: told for name, each in found.items() if (told := _told(each, sampling.level)) is not None}


def _told(found: Interval, level: float) -> Estimate | None:
    """Return an estimate for the manifest; None where it cannot be had, or its interval cannot."""
    if found.value is None or found.low is None or found.high is None:
        return None
    return Estimate(
        value=found.value, low=found.low, high=found.high, level=level, images=found.images, patients=found.patients
    )
