"""``fetalmlops bundle``: list, show, verify and import models."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.cli.importing import import_command
from fetalmlops.cli.quantising import quantise_command
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.domain.models.card import NOT_AVAILABLE, model_card
from fetalmlops.platform.inference.bundles import list_bundles, open_bundle
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["app"]

_SHORT: Final = 12

app = typer.Typer(help="List, show, verify and import models.", no_args_is_help=True)
app.command("import")(import_command)
app.command("quantise")(quantise_command)
BundleArgument = Annotated[str, typer.Argument(metavar="B", help="Name of `fetalmlops bundle list`, or a folder.")]


@app.command("list")
def list_command() -> None:
    """List the bundles that commands take by name."""
    home = load_settings().home
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "model", "version", "status", "digest", "not available"):
        table.add_column(column)
    for name in list_bundles(home):
        try:
            bundle = open_bundle(home, name)
        except FetalMLOpsError as error:
            table.add_row(name, "", "", "broken", "", str(error))
            continue
        manifest = bundle.manifest
        lacking = ", ".join(manifest.lacking) or "nothing"
        table.add_row(name, manifest.name, manifest.version, manifest.release_status, bundle.digest[:_SHORT], lacking)
    Console().print(table)


@app.command()
def show(
    bundle: BundleArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as it is sealed.")] = False,
) -> None:
    """Show a bundle's manifest in short."""
    opened = open_bundle(load_settings().home, bundle)
    if as_json:
        typer.echo(opened.manifest_bytes.decode(), nl=False)
        return
    manifest = opened.manifest
    table = Table(box=None, pad_edge=False, show_header=False)
    rule = manifest.decision
    for name, value in {
        "model": f"{manifest.name} {manifest.version}",
        "status": str(manifest.release_status),
        "digest": opened.digest,
        "licence": manifest.licence,
        "input": f"{manifest.input.rows} x {manifest.input.columns}, {manifest.input.fit}",
        "normalisation": f"{manifest.pipeline.name} {manifest.pipeline.digest[:_SHORT]}",
        "outputs": ", ".join(manifest.outputs),
        "not available": ", ".join(manifest.lacking) or "nothing",
        "precisions": ", ".join(_precisions(manifest)),
        "accepted from": f"{rule.accept:.3f}, brain views {rule.accept_brain:.3f}",
        "out of scope above": f"{rule.ood_limit:g}" if manifest.ood else NOT_AVAILABLE,
        "size": f"{sum(entry.size for entry in manifest.files.values()) / 1e6:.2f} MB",
    }.items():
        table.add_row(name, value)
    Console().print(table)


@app.command()
def verify(bundle: BundleArgument) -> None:
    """Verify a bundle: every digest, its pipeline, and its engine against the reference outputs in every precision."""
    from fetalmlops.domain.models.check import check_engine
    from fetalmlops.platform.engines.openvino import OpenVinoEngine, can_run
    from fetalmlops.platform.inference.local import LocalModel

    opened = open_bundle(load_settings().home, bundle)
    LocalModel(opened)
    manifest = opened.manifest
    typer.echo(f"{manifest.name} {manifest.version} is whole: {len(manifest.files)} files, digest {opened.digest}")
    for precision, variant in sorted(manifest.variants.items()):
        if not can_run(precision):
            typer.echo(f"{precision}: not looked at, this CPU does not compute in it")
            continue
        found = check_engine(opened, OpenVinoEngine(opened, precision=precision))
        typer.echo(f"{precision}: reproduces its reference outputs within {found:.2g}, allowed {variant.tolerance:g}")


@app.command()
def card(
    bundle: BundleArgument,
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the terminal.")] = None,
) -> None:
    """Write a bundle's model card, made from its manifest, as Markdown."""
    opened = open_bundle(load_settings().home, bundle)
    text = model_card(opened.manifest, opened.digest)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, "utf-8")


def _precisions(manifest: Manifest) -> Iterator[str]:
    """Yield what is said of each precision: how far it agrees with f32, or which limits kept it out."""
    gates = manifest.evidence.gates
    for name in sorted({*map(str, manifest.variants), *gates}):
        gate = gates.get(name)
        if gate is None:
            yield name
        elif gate.passed:
            yield f"{name} (same plane as f32 in {gate.agreement:.1%} of {gate.images} images)"
        else:
            yield f"no {name} (failed {', '.join(gate.missed)})"
