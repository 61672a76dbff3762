"""Keys of a running system: rotated under load, restored with a copy of the vault, and mixed up."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.simulation.identities import Identity
from fetalmlops.platform.deid.keys import (
    dump_vault_keys,
    load_pseudonym_key,
    load_vault_keys,
    pseudonym_key_file,
    vault_key_file,
    with_new_vault_key,
)
from fetalmlops.platform.embedded import start_servers, stop_servers
from fetalmlops.platform.keyvalue import open_valkey
from support.deployment import Deployment, deployed, send_with_dcmtk, wait_until, zone
from support.instances import SMALL, write_instances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.platform.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

COMMAND = str(Path(sys.executable).with_name("fetalmlops"))
CONFIGURATION = 78
PATIENTS = (1, 2)
BATCH = 20


class Feed:
    """Sends new instances of both patients, batch after batch, until it is stopped."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.uids: dict[Path, str] = {}
        self.acknowledged: set[Path] = set()
        self._folder, self._settings = folder, settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        batch = 0
        while not self._stopping.is_set():
            files = batch_of(self._folder / str(batch), BATCH, first=10_000 + BATCH * batch)
            self.uids |= files
            self.acknowledged |= send_with_dcmtk(list(files), self._settings, associations=2)
            batch += 1


def batch_of(folder: Path, count: int, *, first: int) -> dict[Path, str]:
    """Write so many instances of each patient; return their SOP Instance UIDs."""
    files: dict[Path, str] = {}
    for patient in PATIENTS:
        files |= write_instances(folder / str(patient), count, first=first, spec=replace(SMALL, study=patient))
    return files


def run(home: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """Return what the command prints to both outputs, the standard one first."""
    known = os.environ | {"FETALMLOPS_HOME": str(home), "COLUMNS": "200"} | environment
    done = subprocess.run([COMMAND, *arguments], env=known, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def serve(home: Path, process: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a service until it ends by itself."""
    known = os.environ | {"FETALMLOPS_HOME": str(home), "FETALMLOPS_HEALTH__PORT": "0"} | environment
    command = [sys.executable, "-P", "-m", f"fetalmlops.{process}"]
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=180, check=False)


def identified(home: Path, pseudonym: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(home, "identify", pseudonym, "--reason", "a test", "--json"))
    return found


def keys_in_use(home: Path) -> dict[str, int]:
    listed = json.loads(run(home, "keys", "list", "--json"))
    return {row["key"]: row["entries"] for row in listed["vault"] if row["entries"]}


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed() as running:
        yield running


@pytest.fixture(scope="module")
def sent(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Path, str]]:
    """Instances from before, between and after two rotations, and of the load meanwhile; each has its result."""
    folder = tmp_path_factory.mktemp("sent")

    def settled(name: str, first: int) -> dict[Path, str]:
        files = batch_of(folder / name, 2, first=first)
        assert send_with_dcmtk(list(files), deployment.settings) == set(files)
        wanted = {deployment.instance(uid) for uid in files.values()}
        assert deployment.wait_for(wanted, 240).results >= wanted
        return files

    found = {"before": settled("before", 0)}
    with Feed(folder / "load", deployment.settings) as feed:
        wait_until(lambda: len(feed.acknowledged) >= BATCH, 120)
        before = deployment.published(INSTANCE_RECEIVED)
        assert "k2 encrypts" in run(deployment.home, "keys", "rotate")
        found["between"] = settled("between", 100)
        assert "k3 encrypts" in run(deployment.home, "keys", "rotate", "--retire")
        arrived = deployment.published(INSTANCE_RECEIVED) - before
        assert arrived > len(found["between"]), "the load went on while keys were rotated"
        found["after"] = settled("after", 200)
    assert feed.acknowledged == set(feed.uids)
    found["load"] = feed.uids
    return found


def test_rotations_under_load_lose_nothing(deployment: Deployment, sent: dict[str, dict[Path, str]]) -> None:
    wanted = {deployment.instance(uid) for files in sent.values() for uid in files.values()}
    account = deployment.wait_for(wanted, 300)
    assert account.results == wanted
    assert account.doubled == 0
    assert deployment.open_entries() == []


def test_pseudonyms_stay_over_rotations(deployment: Deployment, sent: dict[str, dict[Path, str]]) -> None:
    patients = {result.context.instance: result.context.patient for result in deployment.results()}
    key = load_pseudonym_key(deployment.settings)
    people = [Identity.of_study(number) for number in PATIENTS]
    expected = {key.patient(person.patient_id, person.word("ISSUER")) for person in people}
    for files in sent.values():
        assert {patients[deployment.instance(uid)] for uid in files.values()} == expected


def test_every_entry_is_under_the_last_key(deployment: Deployment, sent: dict[str, dict[Path, str]]) -> None:
    instances = sum(map(len, sent.values()))
    # A patient has one entry and one study; and the record by which a wrong key is found.
    assert keys_in_use(deployment.home) == {"k3": instances + 2 * len(PATIENTS) + 1}
    assert list(load_vault_keys(deployment.settings).keys) == ["k3"]


@pytest.mark.parametrize("when", ["before", "between", "after", "load"])
def test_identities_stay_readable(deployment: Deployment, sent: dict[str, dict[Path, str]], when: str) -> None:
    path, uid = next(iter(sent[when].items()))
    found = identified(deployment.home, deployment.instance(uid))
    assert found["instance"]["uid"] == uid
    assert found["patient"]["id"] == Identity.of_study(int(path.parent.name)).patient_id


@contextmanager
def restored(home: Path) -> Iterator[Settings]:
    """Run the servers of a state folder."""
    try:
        yield start_servers(home)
    finally:
        stop_servers(home)


def dumped(settings: Settings) -> Path:
    """Have Valkey write a dump, as ``BGSAVE`` does; return it."""

    async def dump() -> Path:
        valkey = open_valkey(settings)
        try:
            before: Any = await valkey.lastsave()
            await asyncio.sleep(1.1)  # the time of the last dump is told in whole seconds
            await valkey.bgsave()
            while await valkey.lastsave() == before:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.1)
            folder: Any = await valkey.config_get("dir")
            return Path(folder["dir"]) / "dump.rdb"
        finally:
            await valkey.aclose()

    return asyncio.run(dump())


@pytest.fixture
def backup(deployment: Deployment, sent: dict[str, dict[Path, str]], tmp_path: Path) -> Path:
    """A fresh state folder with what a backup by ``BGSAVE`` brings back: keys, and the dump as base of the append-only file."""
    assert sent
    home = tmp_path / "home"
    shutil.copytree(deployment.home / "secrets", home / "secrets")
    base = home / "data" / "valkey" / "appendonlydir"
    base.mkdir(parents=True)
    shutil.copy(dumped(deployment.settings), base / "appendonly.aof.1.base.rdb")
    (base / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
    return home


def test_a_dump_with_its_ring_identifies_in_a_fresh_home(
    deployment: Deployment, sent: dict[str, dict[Path, str]], backup: Path
) -> None:
    there = keys_in_use(deployment.home)
    with restored(backup):
        assert keys_in_use(backup) == there
        for files in sent.values():
            path, uid = next(iter(files.items()))
            found = identified(backup, deployment.instance(uid))
            assert found["instance"]["uid"] == uid
            assert found["patient"]["id"] == Identity.of_study(int(path.parent.name)).patient_id


def test_a_copy_of_a_stopped_append_only_file_identifies_in_a_fresh_home(
    deployment: Deployment, sent: dict[str, dict[Path, str]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    deployment.system.stop("anonymizer", "valkey")
    try:
        shutil.copytree(deployment.home / "secrets", home / "secrets")
        shutil.copytree(deployment.home / "data" / "valkey", home / "data" / "valkey")
    finally:
        deployment.bring_back("valkey")
        deployment.bring_back("anonymizer")
    with restored(home):
        uid = next(iter(sent["load"].values()))
        assert identified(home, deployment.instance(uid))["instance"]["uid"] == uid


def test_another_ring_is_refused_with_both_fingerprints(
    deployment: Deployment, sent: dict[str, dict[Path, str]], backup: Path
) -> None:
    own = load_vault_keys(deployment.settings)
    ring = replace(own, keys={"k3": secrets.token_bytes(64)})
    with restored(backup) as settings:
        vault_key_file(settings).write_text(dump_vault_keys(ring))
        pseudonym = deployment.instance(next(iter(sent["before"].values())))
        said = [
            run(backup, "identify", pseudonym, "--reason", "a test", code=CONFIGURATION),
            run(backup, "keys", "rotate", code=CONFIGURATION),
        ]
        ended = serve(backup, "anonymizer")
        assert ended.returncode == CONFIGURATION
        for text in (*said, ended.stdout + ended.stderr):
            words = " ".join(text.split())
            assert f"fingerprint {own.fingerprint('k3')}, got {ring.fingerprint('k3')}" in words
            assert "restore the vault's key file" in words

        # Not even a ring of keys that the vault never had: it is not taken for a rotation.
        vault_key_file(settings).write_text(dump_vault_keys(with_new_vault_key()))
        assert "a ring without it" in run(backup, "identify", pseudonym, "--reason", "a test", code=CONFIGURATION)

        # The backup is as it was: with its own ring it opens.
        vault_key_file(settings).write_text(dump_vault_keys(own))
        assert identified(backup, pseudonym)["instance"]


def test_a_missing_ring_is_not_made_anew_beside_a_restored_vault(backup: Path) -> None:
    (backup / "secrets" / "vault.json").unlink()
    with pytest.raises(SettingsError, match=r"vault\.json beside the data.*restore it from a backup"):
        start_servers(backup)
    assert "restore it from a backup" in " ".join(run(backup, "up", code=CONFIGURATION).split())
    assert not (backup / "secrets" / "vault.json").exists()


@pytest.mark.parametrize("process", ["listener", "anonymizer"])
def test_a_service_with_another_pseudonym_key_ends_before_it_takes_anything(
    deployment: Deployment, tmp_path: Path, process: str
) -> None:
    for name in ("secrets", "run"):
        shutil.copytree(
            deployment.home / name, tmp_path / name, ignore=shutil.ignore_patterns("*.sock", "*.pid", "lock")
        )
    own = load_pseudonym_key(deployment.settings)
    settings = deployment.settings.model_copy(update={"home": tmp_path})
    pseudonym_key_file(settings).write_text(secrets.token_hex(32))
    other, stored = load_pseudonym_key(settings), deployment.stored()
    ended = serve(
        tmp_path,
        process,
        FETALMLOPS_OBJECTS__PHI_URL=deployment.settings.phi_url,
        FETALMLOPS_OBJECTS__CLEAN_URL=deployment.settings.clean_url,
        FETALMLOPS_LISTENER__PORT="0",
    )
    assert ended.returncode == CONFIGURATION
    said = " ".join((ended.stdout + ended.stderr).split())
    assert own.fingerprint in said
    assert other.fingerprint in said
    assert "restore the" in said
    assert own.secret.hex() not in said
    assert other.secret.hex() not in said
    assert deployment.stored() == stored
    mark = zone(deployment.settings.phi_url) / "keys" / deployment.settings.project
    assert mark.read_text() == own.fingerprint
