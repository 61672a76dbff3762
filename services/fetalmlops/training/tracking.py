"""The record of a training in MLflow: an SQLite file of the state folder, never the network and never MLflow's file store."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXPERIMENT", "Record", "open_record"]

EXPERIMENT: Final = "fetalmlops"
"""Name of the experiment."""

_LONGEST: Final = 500
_QUIET: Final = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}


class Record:
    """One run in MLflow.

    Parameters
    ----------
    client, run_id
        MLflow's client, and its id of the run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def set(self, parameters: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Record what was asked for; parameters that stand already stay as they are."""
        known = self._client.get_run(self.run_id).data.params
        for name, value in parameters.items():
            if name not in known:
                self._client.log_param(self.run_id, name, str(value)[:_LONGEST])
        for name, text in tags.items():
            self._client.set_tag(self.run_id, name, text)

    def figures(self, figures: Mapping[str, float], step: int = 0) -> None:
        """Record figures of a step."""
        for name, value in figures.items():
            plain = "".join(letter if letter.isalnum() or letter in "_-. /" else " " for letter in name)
            self._client.log_metric(self.run_id, plain, float(value), step=step)

    def keep(self, name: str, content: bytes) -> None:
        """Keep a file with the run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def end(self, status: str = "FINISHED") -> None:
        """Close the run."""
        self._client.set_terminated(self.run_id, status)


def open_record(home: Path, name: str, run_id: str = "") -> Record:
    """Begin a run, or go on with one.

    Parameters
    ----------
    home
        State folder; the database is ``mlflow/mlflow.db`` in it.
    name
        Name of the run.
    run_id
        The run to go on with; empty for a new one.
    """
    os.environ.update(_QUIET)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    # Importing it sets its own level.
    logging.getLogger("mlflow").setLevel(logging.WARNING)

    folder = home.absolute() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(EXPERIMENT)
    artefacts = (folder / "artefacts").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artefacts)
    if run_id:
        try:
            client.update_run(run_id, status="RUNNING")
            return Record(client, run_id)
        except MlflowException:
            # The database was taken away; the training is worth more than the record of its first part.
            run_id = ""
    return Record(client, client.create_run(experiment, run_name=name).info.run_id)
