"""What the proofs of de-identification count: planted values that came out, and the ten actions of the MIDI-B challenge.

The tests in ``tests/deid`` assert the same. Run with ``PYTHONPATH=tests python benchmarks/proofs.py``.
"""

from __future__ import annotations

import warnings

from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import PROFILES
from support.midib import ACTIONS, all_scores
from support.sweep import ROWS, RUNS, sweep

_KEY = PseudonymKey("benchmark", bytes(range(32)))


def main() -> None:
    """Print both tables."""
    warnings.simplefilter("ignore")
    _print_sweep()
    _print_actions()


def _print_sweep() -> None:
    table = Table(title=f"{len(ROWS)} rows x {len(RUNS)} depths and encodings: planted values that came out")
    columns = ["top level", *(f"{depth} deep, {encoded}" for depth, encoded in RUNS[1:])]
    for column in ("profile", *columns, "planted", "leaks"):
        table.add_column(column, justify="left" if column == "profile" else "right", no_wrap=column == "profile")
    for name, profile in sorted(PROFILES.items()):
        runs = [sweep(profile, _KEY, depth, encoded) for depth, encoded in RUNS]
        leaks = [len(run.leaks) for run in runs]
        table.add_row(name, *map(str, leaks), str(sum(run.planted for run in runs)), str(sum(leaks)))
    Console(width=120).print(table)


def _print_actions() -> None:
    table = Table(
        title="MIDI-B's ten actions on simulated ultrasound: passed / required, where a profile promises the action"
    )
    scores = all_scores(_KEY)
    for column in ("action", *scores):
        table.add_column(column, justify="left" if column == "action" else "right")
    others = sorted({action for result in scores.values() for action in result.required} - set(ACTIONS))
    for action in (*ACTIONS, *others):
        cells = [f"{score.passed[action]} / {score.required[action]}" for score in scores.values()]
        table.add_row(action, *(cell if cell != "0 / 0" else "-" for cell in cells))
    totals = [(sum(result.passed.values()), sum(result.required.values())) for result in scores.values()]
    table.add_row("all", *(f"{100 * passed / required:.1f} %" for passed, required in totals))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
