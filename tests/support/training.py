"""A training that is over soon, and one who looks on; needs the train extra."""

from __future__ import annotations

from fetalmlops.training.recipe import decode_recipe

RECIPE = decode_recipe(
    b"""name = "short"
version = "2.0.0"
licence = "Apache-2.0"
release_status = "demonstration"
network = { widths = [8, 16, 24] }
input = { rows = 48, columns = 64 }
fitting = { epochs = 1, batch = 10 }
"""
)


class Viewer:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def cached(self, done: int, of: int) -> None: ...

    def step(self, done: int, of: int, loss: float) -> None: ...

    def epoch(self, number: int, figures: dict[str, float]) -> None: ...
