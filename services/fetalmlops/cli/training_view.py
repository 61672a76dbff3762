"""How a training is shown: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["TrainingView"]


class TrainingView:
    """Shows preparation and fitting on standard error.

    Parameters
    ----------
    shown
        Whether to show anything; only one of several processes does.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown or not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Show a line."""
        if self._shown:
            self._console.print(text, markup=False, soft_wrap=True)

    def cached(self, done: int, of: int) -> None:
        """Show how many images have been prepared."""
        self._show("prepare", done, of)

    def step(self, done: int, of: int, loss: float) -> None:
        """Show how far the fitting is."""
        self._show("train", done, of, f"train, loss {loss:.3f}")

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        """Show the figures of an epoch."""
        self.say(f"epoch {number + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))

    def _show(self, name: str, done: int, of: int, text: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._tasks[name], completed=done, description=text or name)
