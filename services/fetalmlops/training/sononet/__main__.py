"""Makes the bundle for real images: ``python -m fetalmlops.training.sononet --images … --hc18 … --weights … --out …``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import FetalMLOpsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, fit, and write the bundle's files."""
    options = _parser().parse_args(arguments)
    from fetalmlops.training.sononet.making import Sources, make_bundle, say
    from fetalmlops.training.sononet.recipe import Recipe

    try:
        files = make_bundle(Sources.read(options.images, options.hc18, options.weights), options.seed, Recipe())
    except FetalMLOpsError as error:
        raise SystemExit(str(error)) from None
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.out / name).write_bytes(content)
    say(f"{options.out}: {sum(map(len, files.values())) / 1e6:.2f} MB\n\n{files['card.md'].decode()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{Path(sys.executable).name} -m fetalmlops.training.sononet",
        description="Fit small heads on a frozen SonoNet-16 with the real images at hand. Needs the train extra.",
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="FETAL_PLANES_DB: its table, and images in a folder images"
    )
    parser.add_argument("--hc18", type=Path, required=True, help="folder of HC18 images, NNN_HC.png")
    parser.add_argument("--weights", type=Path, required=True, help="SonoNet16.pth, the published weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle's files")
    parser.add_argument("--seed", type=int, default=1, help="seed of all that is random")
    return parser


if __name__ == "__main__":
    main()
