"""The jars of Apache Kafka: fetched once by `fetalmlops setup`, checked against committed SHA-256 sums, kept in a cache.

The cache is the user's, not the state folder's: a second clone or state folder finds the jars there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import disk_errors

__all__ = ["KAFKA_VERSION", "cache_folder", "expected_sums", "fetch_jars", "find_jars", "jar_folder", "wrong_jars"]

KAFKA_VERSION = "4.3.1"
"""Version of Apache Kafka that is embedded."""

# Resolved one by one: together, the version management of the second would replace jars of the first.
_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)


def cache_folder() -> Path:
    """Return the user's cache folder: ``FETALMLOPS_CACHE``, or ``fetalmlops`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("FETALMLOPS_CACHE"):
        return Path(chosen).expanduser().absolute()
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        msg = "Expected a home folder for the cache, got none; set FETALMLOPS_CACHE to a folder"
        raise SettingsError(msg) from None
    return base.absolute() / "fetalmlops"


def jar_folder() -> Path:
    """Return the folder in which the jars are kept."""
    return cache_folder() / f"kafka-{KAFKA_VERSION}"


def expected_sums() -> dict[str, str]:
    """Return file name to SHA-256 (hex) of every jar that the broker runs with.

    Examples
    --------
    >>> sums = expected_sums()
    >>> len(sums), len(sums["kafka-clients-4.3.1.jar"])
    (46, 64)
    """
    text = resources.files(__package__).joinpath(f"kafka-{KAFKA_VERSION}.sha256").read_text("utf-8")
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {name: digest for digest, name in pairs}


def wrong_jars(folder: Path) -> list[str]:
    """Return what is wrong with the jars of a folder, one text a jar; empty if all are there and right.

    Parameters
    ----------
    folder
        Where to look. Jars that are not expected count as wrong: the broker would load them.
    """
    expected = expected_sums()
    found = {path.name: path for path in folder.glob("*.jar")} if folder.is_dir() else {}
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not one of Kafka's" for name in found if name not in expected]
    return problems + [
        f"{name} has another SHA-256 than the committed one"
        for name, digest in expected.items()
        if name in found and _sha256(found[name]) != digest
    ]


def find_jars() -> Path:
    """Return the folder of the jars, all checked.

    Raises
    ------
    EmbeddedError
        If they are missing or wrong: `fetalmlops setup` fetches them.
    """
    folder = jar_folder()
    if not folder.is_dir():
        msg = f"Expected Kafka's jars in {folder}, got no such folder; run `fetalmlops setup` once (it downloads 45 MB)"
        raise EmbeddedError(msg)
    if problems := wrong_jars(folder):
        msg = f"Expected Kafka's jars in {folder}, got: {_few(problems)}; run `fetalmlops setup` again"
        raise EmbeddedError(msg)
    return folder


def fetch_jars(source: Path | None = None) -> Path:
    """Put the jars into the cache unless they are there.

    Parameters
    ----------
    source
        Folder with the jars, for a machine without internet; default: they are downloaded with `jgo`.

    Returns
    -------
    Path
        The folder of the jars.

    Raises
    ------
    EmbeddedError
        If they cannot be had, or one has another SHA-256 than the committed one (it is not kept).
    """
    folder = jar_folder()
    if not wrong_jars(folder):
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
            draft = Path(scratch) / "jars"
            draft.mkdir()
            for jar in _given(source) if source else _downloaded(Path(scratch) / "maven"):
                shutil.copyfile(jar, draft / jar.name)
            if problems := wrong_jars(draft):
                msg = f"Expected Kafka's jars as committed, got: {_few(problems)}; nothing was kept, see your mirror"
                raise EmbeddedError(msg)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
    return folder


def _given(source: Path) -> list[Path]:
    return [source / name for name in expected_sums() if (source / name).is_file()]


def _downloaded(scratch: Path) -> list[Path]:
    """Download with jgo into `scratch`; it takes proxies and certificates from the environment, as other tools do."""
    import jgo
    import requests

    jars: dict[str, Path] = {}
    for coordinate in _COORDINATES:
        try:
            environment = jgo.build(coordinate, cache_dir=scratch)
        except (requests.RequestException, RuntimeError, ValueError) as error:
            msg = (
                f"Expected to download {coordinate}, got {type(error).__name__}; check the network and its proxy, or "
                "run `fetalmlops setup --from FOLDER` with the jars"
            )
            raise EmbeddedError(msg) from error
        jars.update({jar.name: jar for jar in environment.all_jars})
    return list(jars.values())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _few(problems: list[str]) -> str:
    return "; ".join(problems[:5]) + (f" and {len(problems) - 5} more" if len(problems) > 5 else "")
