"""A simulated hospital gets a scanner that its bundle never saw: what each level of ``adapt`` does there, and at the old site.

A network is trained, and calibrated, on phantoms of the old site's scanners. Old and new bundles are then compared on phantoms
of patients that `adapt` was not given, with intervals over patients. Exits with 1 if a level is not shown to lower the loss at
the new site, or not shown to leave the old one as it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.cli.adapt import Level, Wish, fit_site
from fetalmlops.cli.train import need_training
from fetalmlops.cli.training_view import TrainingView
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.benefit import MARGIN, difference_text, weigh
from fetalmlops.domain.learning.phantoms.site import plan_site
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.calibration import expected_calibration_error, negative_log_likelihood
from fetalmlops.domain.models.manifest import InputSpec
from fetalmlops.platform.inference.bundles import open_bundle
from fetalmlops.platform.learning.datasets import open_dataset
from fetalmlops.platform.learning.fitting import observe
from fetalmlops.platform.learning.phantoms import write_dataset
from fetalmlops.platform.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.learning.benefit import Benefit
    from fetalmlops.domain.learning.comparison import Comparison
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.learning.datasets import Dataset

__all__ = ["NEW", "OLD", "Held", "Sizes", "adapt_all", "main", "show", "sound", "train_old"]

OLD: Final = ("alpha", "beta")
"""Scanners of the old site."""

NEW: Final = "eta"
"""Scanner of the new site."""

_ASKED: Final = ((Level.CALIBRATE, False), *((level, True) for level in Level))
_FIGURES: Final = ("negative_log_likelihood", "expected_calibration_error", "accuracy", "macro_f1")


@dataclass(frozen=True)
class Sizes:
    """Images to train on at the old site, to adapt by at each site, and to judge by at each site; epochs of the training."""

    train: int = 1500
    adapt: int = 720
    judge: int = 1440
    epochs: int = 16


@dataclass(frozen=True)
class Held:
    """What a level, with or without --keep, came to: figures on patients that it was not given, or why it was refused."""

    level: Level
    kept: bool
    benefit: Benefit | None
    refused: str = ""

    @property
    def name(self) -> str:
        """What was asked for."""
        return f"{self.level}, --keep" if self.kept else str(self.level)

    @property
    def better(self) -> bool:
        """Whether the loss at the new site is shown to fall."""
        loss = _loss(self.benefit.site if self.benefit else None)
        return loss is not None and loss.high is not None and loss.high < 0

    @property
    def harmful(self) -> bool:
        """Whether the loss is shown to rise at the new site, or by more than the margin at the old one."""
        site, kept = (self.benefit.site, self.benefit.kept) if self.benefit else (None, None)
        limits = [(_loss(site), 0.0), (_loss(kept), MARGIN)]
        return any(loss is not None and loss.low is not None and loss.low > limit for loss, limit in limits)

    @property
    def no_worse(self) -> bool:
        """Whether the loss at the old site is shown to rise by no more than the margin."""
        loss = _loss(self.benefit.kept if self.benefit else None)
        return loss is not None and loss.high is not None and loss.high <= MARGIN


def main() -> int:
    """Run the demonstration."""
    need_training()
    parser = argparse.ArgumentParser(description="Adapt a bundle of phantoms to a scanner that it never saw")
    parser.add_argument("--seed", type=int, default=1, help="seed of the phantoms")
    options = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        old = train_old(Path(folder), Sizes(), options.seed)
        held = adapt_all(old, Path(folder), Sizes(), options.seed)
    show(held)
    Console().print(f"took {time.monotonic() - began:.0f} s", highlight=False)
    return int(not sound(held))


def sound(held: Sequence[Held]) -> bool:
    """Return whether no new bundle is shown to do harm at either site, and one is shown to do good at the new one.

    A level whose bundle was refused does neither.
    """
    return not any(each.harmful for each in held) and any(each.better and each.no_worse for each in held)


def train_old(home: Path, sizes: Sizes, seed: int, workers: int = 0) -> Bundle:
    """Train a small network on phantoms of the old site's scanners, and calibrate it on other patients there.

    Parameters
    ----------
    home
        A state folder to work in.
    sizes
        How many images.
    seed
        Seed of the phantoms.
    workers
        Processes that render; 0 for one a core, 1 for this one alone.
    """
    from fetalmlops.training.finetuning import with_validation
    from fetalmlops.training.places import joined
    from fetalmlops.training.recipe import NetworkEntry, TrainingPrecision, find_recipe
    from fetalmlops.training.session import Job, train

    data = _phantoms(home, "trained", OLD, sizes.train, seed, workers)
    images = with_validation(data.manifest.images, seed)
    data = replace(data, manifest=msgspec.structs.replace(data.manifest, images=images))
    recipe = find_recipe("demonstration")
    fitting = msgspec.structs.replace(recipe.fitting, epochs=sizes.epochs, batch=32, precision=TrainingPrecision.F32)
    recipe = msgspec.structs.replace(
        recipe,
        name="old-site",
        network=NetworkEntry(widths=(16, 24, 40, 64)),
        input=InputSpec(rows=80, columns=96),
        fitting=fitting,
    )
    with joined() as place, TrainingView() as view:
        files = train(Job(recipe=recipe, data=data, home=home), place, view).files
    return load_bundle(files)


def adapt_all(old: Bundle, home: Path, sizes: Sizes, seed: int, *, workers: int = 0, risk: float = 0.05) -> list[Held]:
    """Adapt a bundle by every level, and judge the new ones.

    Parameters
    ----------
    old
        The bundle of `train_old`.
    home
        A state folder to work in.
    sizes
        How many images.
    seed
        Seed of the phantoms.
    workers
        Processes that render; 0 for one a core, 1 for this one alone.
    risk
        Wished share of patients with an accepted error.
    """
    sets: dict[str, Dataset] = {}
    for name in ("new", "old", "new-judged", "old-judged"):
        scanners, images = (NEW,) if name.startswith("new") else OLD, sizes.judge if "judged" in name else sizes.adapt
        sets[name] = _phantoms(home, name, scanners, images, seed, workers)
    before = {name: observe(old, sets[name]).predictions for name in ("new-judged", "old-judged")}
    for name, known in before.items():
        loss, gap = (
            measure(known.probabilities, known.labels)
            for measure in (negative_log_likelihood, expected_calibration_error)
        )
        typer.echo(f"old bundle on {name}: loss {loss:.3f}, calibration error {gap:.3f}")
    found = []
    for level, kept in _ASKED:
        wish = Wish(level=level, name=f"fit-{level}{'-kept' if kept else ''}", risk=risk)
        try:
            folder = fit_site(home, old, sets["new"], sets["old"] if kept else None, wish)
        except ContractError as error:
            found.append(Held(level, kept, None, str(error)))
            continue
        new = open_bundle(home, str(folder))
        after = {name: observe(new, sets[name]).predictions for name in before}
        benefit = weigh(before["new-judged"], after["new-judged"], before["old-judged"], after["old-judged"])
        found.append(Held(level, kept, benefit))
    return found


def show(held: list[Held]) -> None:
    """Print what the levels came to."""
    table = Table(title=f"new bundle less old on patients that adapt was not given; new site {NEW}, old {', '.join(OLD)}",
        box=None, title_justify="left")  # fmt: skip
    for column in ("level", "site", "loss", "calibration error", "accuracy", "macro F1", "patients"):
        table.add_column(column, no_wrap=True)
    for each in held:
        pairs = (("new", each.benefit.site), ("old", each.benefit.kept)) if each.benefit else ()
        for site, comparison in pairs:
            if comparison is not None:
                texts = [difference_text(comparison.differences[name]) for name in _FIGURES]
                table.add_row(each.name, site, *texts, str(comparison.patients))
    console = Console(width=150, highlight=False)
    console.print(table)
    for each in held:
        if each.refused:
            console.print(f"{each.name} refused: {each.refused}", soft_wrap=True)


def _phantoms(home: Path, name: str, scanners: Sequence[str], images: int, seed: int, workers: int) -> Dataset:
    """Write phantoms of a site, and open them."""
    write_dataset(home / name, plan_site(name, scanners, images, seed), name, workers=workers)
    return open_dataset(Settings(home=home), home / name)


def _loss(comparison: Comparison | None) -> Estimate | None:
    return comparison.differences["negative_log_likelihood"] if comparison else None


if __name__ == "__main__":
    sys.exit(main())
