"""The command ``fetalmlops``."""

from __future__ import annotations

import logging
import os
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import Annotated

import typer

from fetalmlops import __version__
from fetalmlops.cli.lazy import LazyCommand, LazyGroup

__all__ = ["COMMANDS", "app"]

_RUN = "Run the system"
_USE = "Send studies and see results"
_OPERATE = "Operate it"
_BUILD = "Build on it"
_LEARN = "Learn from images"

COMMANDS = {
    "setup": LazyCommand("fetalmlops.cli.system:setup", "Download what is needed, once.", _RUN),
    "up": LazyCommand(
        "fetalmlops.cli.system:up", "Start everything on this machine, and wait until it is ready.", _RUN
    ),
    "down": LazyCommand("fetalmlops.cli.system:down", "Stop everything.", _RUN),
    "status": LazyCommand("fetalmlops.cli.watch:status", "Show how every process fares.", _RUN),
    "logs": LazyCommand("fetalmlops.cli.watch:logs", "Show the logs.", _RUN),
    "doctor": LazyCommand("fetalmlops.cli.watch:doctor", "Say in plain words what is wrong with this machine.", _RUN),
    "simulate": LazyCommand("fetalmlops.cli.simulate:simulate", "Make simulated studies, and send them.", _USE),
    "send": LazyCommand("fetalmlops.cli.send:send", "Send DICOM files by C-STORE.", _USE),
    "classify": LazyCommand("fetalmlops.cli.classify:classify", "Classify files without any server.", _USE),
    "explain": LazyCommand("fetalmlops.cli.explain:explain", "Show what influenced the model in an image.", _USE),
    "results": LazyCommand("fetalmlops.cli.results:results", "Show the current results.", _USE),
    "trace": LazyCommand("fetalmlops.cli.trace:trace", "Show an instance's way through the stages.", _USE),
    "quarantine": LazyCommand("fetalmlops.cli.quarantine:app", "See, replay and drop what a stage refused.", _OPERATE),
    "sources": LazyCommand("fetalmlops.cli.sources:app", "List, add and test the systems that may send.", _OPERATE),
    "deid": LazyCommand(
        "fetalmlops.cli.deid.commands:app", "De-identify files, and see what is done to what.", _OPERATE
    ),
    "keys": LazyCommand("fetalmlops.cli.keys:app", "Make, list and rotate keys.", _OPERATE),
    "identify": LazyCommand("fetalmlops.cli.identify:identify", "Show who is behind a pseudonym.", _OPERATE),
    "patient": LazyCommand("fetalmlops.cli.patient:app", "Erase what there is of a patient.", _OPERATE),
    "provision": LazyCommand(
        "fetalmlops.cli.provision:provision", "Make the topics, and put a model in place.", _OPERATE
    ),
    "models": LazyCommand("fetalmlops.cli.models:app", "Show which bundle serves in which role, and why.", _OPERATE),
    "promote": LazyCommand("fetalmlops.cli.promoting:promote", "Let a bundle serve, after its gates.", _OPERATE),
    "rollback": LazyCommand("fetalmlops.cli.promoting:rollback", "Go back to the bundle that served before.", _OPERATE),
    "retire": LazyCommand("fetalmlops.cli.promoting:retire", "End the shadow.", _OPERATE),
    "retention": LazyCommand("fetalmlops.cli.retention:retention", "Delete what is past its lifetime.", _OPERATE),
    "energy": LazyCommand("fetalmlops.cli.energy:app", "See what the system has taken, and what that emits.", _OPERATE),
    "bundle": LazyCommand("fetalmlops.cli.bundle:app", "List, show, verify and import models.", _BUILD),
    "adapt": LazyCommand("fetalmlops.cli.adapt:adapt", "Fit a bundle to a site by its labelled images.", _LEARN),
    "accept": LazyCommand(
        "fetalmlops.cli.accept:accept", "Test whether a bundle does what it is for at a site.", _LEARN
    ),
    "evaluate": LazyCommand("fetalmlops.cli.evaluate:evaluate", "Judge a bundle by a data set.", _LEARN),
    "compare": LazyCommand("fetalmlops.cli.compare:compare", "Compare bundles on the same images.", _LEARN),
    "leave-out": LazyCommand(
        "fetalmlops.cli.leave_out:leave_out", "Judge by scanners that have been left out of training.", _LEARN
    ),
    "data": LazyCommand("fetalmlops.cli.data:app", "Add, check and describe data sets.", _LEARN),
    "train": LazyCommand("fetalmlops.cli.train:train", "Train a model, and seal a bundle of it.", _LEARN),
    "tune": LazyCommand("fetalmlops.cli.tune:tune", "Search the ranges that a recipe names.", _LEARN),
    "intended-use": LazyCommand("fetalmlops.cli.intended_use:app", "See and check what the classifier is for.", _LEARN),
    "weights": LazyCommand("fetalmlops.cli.weights:app", "Add and list weights to begin training from.", _LEARN),
    "schemas": LazyCommand("fetalmlops.cli.schemas:schemas", "Write the JSON Schemas of the events.", _BUILD),
}
"""Name to command. A command is a function with its options, or a `typer.Typer`, imported when it is run."""


class _Group(LazyGroup):
    table = COMMANDS


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    *,
    home: Annotated[
        Path | None, typer.Option(help="State folder; default: FETALMLOPS_HOME, or .fetalmlops here.")
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show logs and warnings, and where an error was raised.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """MLOps for fetal ultrasound: from C-STORE to a calibrated, explained, traceable result."""
    if home is not None:
        os.environ["FETALMLOPS_HOME"] = str(home)
    _set_up_logging(debug=debug)


def _set_up_logging(*, debug: bool) -> None:
    """Keep logs and warnings of libraries off the terminal: they mix with a command's output, and may quote values."""
    import structlog

    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
    logging.captureWarnings(capture=not debug)
    if debug:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
