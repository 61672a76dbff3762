"""Rotation of the vault's keys against a real Valkey: under load, killed in the middle, and repeated."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.deid import Identity, InstanceIdentity, PatientIdentity, Pseudonyms, StudyIdentity
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.deid.keys import READABLE_BY_GROUP, load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.rotation import count_entries, locked_ring, retire, rotate
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.keyvalue import open_valkey

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.platform.deid.keys import VaultKeys
    from fetalmlops.platform.settings import Settings


def identity(number: int) -> Identity:
    names = [f"{kind}{number:031x}" for kind in "abcd"]
    return Identity(
        pseudonyms=Pseudonyms(*names),
        patient=PatientIdentity(name=f"CANARY^{number}", id=f"CANARY-{number}"),
        study=StudyIdentity(uid=f"1.2.3.{number}", patient=names[0]),
        instance=InstanceIdentity(uid=f"1.2.3.4.{number}", study=names[1], series_uid="1.2.5", sop_class_uid="1.2.6"),
    )


@pytest.fixture
def home(embedded: Settings, tmp_path: Path) -> Settings:
    """A project of its own on the real servers, with a ring of its own."""
    shutil.copytree(embedded.home / "secrets", tmp_path / "secrets")
    shutil.copytree(embedded.home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.sock", "*.pid", "*.log"))
    return embedded.model_copy(update={"home": tmp_path, "project": f"test-{uuid.uuid4().hex[:8]}"})


def vault_of(settings: Settings, valkey: Redis) -> ValkeyVault:
    def load() -> VaultKeys:
        return load_vault_keys(settings)

    return ValkeyVault(valkey, load(), settings.project, reload=load)


def nothing(_done: int, _total: int) -> None: ...


async def lost(vault: ValkeyVault, numbers: range) -> list[int]:
    missing = []
    for number in numbers:
        expected = identity(number)
        names = expected.pseudonyms
        found = await vault.patient(names.patient), await vault.study(names.study), await vault.instance(names.instance)
        if found != (expected.patient, expected.study, expected.instance):
            missing.append(number)
    return missing


def test_rotation_under_load_loses_nothing(home: Settings) -> None:
    async def run() -> None:
        valkey = open_valkey(home)
        writer, reader, stop = vault_of(home, valkey), vault_of(home, valkey), asyncio.Event()
        fingerprint = load_pseudonym_key(home).fingerprint
        await writer.verify(fingerprint)
        written = 0

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await writer.put(identity(written))
                await writer.put(identity(written // 2))  # an entry that the rotation may be about to swap
                written += 1
                assert await lost(reader, range(max(0, written - 2), written)) == []

        for number in range(1000, 2500):
            await writer.put(identity(number))
        load = asyncio.create_task(write())
        for expected in ("k2", "k3"):
            assert await rotate(home, valkey, nothing) == expected
            await asyncio.sleep(0.1)
        stop.set()
        await load
        assert written > 5
        assert await lost(reader, range(written)) == []
        assert await lost(vault_of(home, valkey), range(1000, 2500)) == []
        assert set(await count_entries(valkey, home.project)) == {"k3"}
        assert await retire(home, valkey) == ["k1", "k2"]
        assert await retire(home, valkey) == []
        assert list(load_vault_keys(home).keys) == ["k3"]
        await vault_of(home, valkey).verify(fingerprint)
        await writer.put(identity(1))
        await valkey.aclose()

    asyncio.run(run())


def test_a_key_in_use_is_not_retired(home: Settings) -> None:
    async def run() -> None:
        valkey = open_valkey(home)
        vault = vault_of(home, valkey)
        await vault.verify()
        await vault.put(identity(1))
        name = f"vault:{home.project}:patient:{identity(1).pseudonyms.patient}"
        old = await valkey.get(name)
        await rotate(home, valkey, nothing)
        await valkey.set(name, old or b"")  # as a backup would bring it back
        assert await retire(home, valkey) == []
        assert await lost(vault_of(home, valkey), range(1, 2)) == []
        await valkey.aclose()

    asyncio.run(run())


def test_only_one_may_rotate(home: Settings) -> None:
    with locked_ring(home), pytest.raises(FetalMLOpsError, match="only one"), locked_ring(home):
        pass
    with locked_ring(home):
        pass


def test_a_killed_rotation_goes_on(home: Settings) -> None:
    async def fill() -> None:
        valkey = open_valkey(home)
        vault = vault_of(home, valkey)
        await vault.verify()
        for start in range(0, 4000, 50):
            await asyncio.gather(*(vault.put(identity(number)) for number in range(start, start + 50)))
        await valkey.aclose()

    async def counts() -> dict[str, int]:
        valkey = open_valkey(home)
        try:
            return dict(await count_entries(valkey, home.project))
        finally:
            await valkey.aclose()

    async def all_there() -> list[int]:
        valkey = open_valkey(home)
        try:
            return await lost(vault_of(home, valkey), range(0, 4000, 7))
        finally:
            await valkey.aclose()

    asyncio.run(fill())
    command = [str(Path(sys.executable).with_name("fetalmlops")), "keys", "rotate", "--retire"]
    environment = os.environ | {"FETALMLOPS_HOME": str(home.home), "FETALMLOPS_PROJECT": home.project}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while asyncio.run(counts()).get("k2", 0) == 0 and time.monotonic() < end:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    middle = asyncio.run(counts())
    assert middle["k1"]
    assert middle["k2"]
    assert asyncio.run(all_there()) == []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "k2 encrypts" in done.stdout
    assert "retired: k1" in done.stdout
    assert asyncio.run(counts()) == {"k2": 12_001}
    assert asyncio.run(all_there()) == []


def test_keys_that_are_open_to_their_group_are_rotated_by_their_owner_and_stay_so(home: Settings) -> None:
    for path in (home.home / "secrets").iterdir():
        path.chmod(READABLE_BY_GROUP)
    command = [str(Path(sys.executable).with_name("fetalmlops")), "keys", "rotate", "--retire"]
    environment = os.environ | {"FETALMLOPS_HOME": str(home.home), "FETALMLOPS_PROJECT": home.project}
    for expected in ("k2", "k3"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert f"{expected} encrypts" in done.stdout, done.stderr
    assert list(load_vault_keys(home).keys) == ["k3"]
    modes = {path.stat().st_mode & 0o777 for path in (home.home / "secrets").iterdir()}
    assert modes == {READABLE_BY_GROUP}


def test_the_list_shows_ages_and_entries_and_never_a_key(home: Settings) -> None:
    async def fill() -> None:
        valkey = open_valkey(home)
        vault = vault_of(home, valkey)
        await vault.verify()
        await vault.put(identity(1))
        await valkey.aclose()

    asyncio.run(fill())
    command = [str(Path(sys.executable).with_name("fetalmlops")), "keys", "list"]
    environment = os.environ | {"FETALMLOPS_HOME": str(home.home), "FETALMLOPS_PROJECT": home.project}
    for arguments in ([], ["--json"]):
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        ring = load_vault_keys(home)
        assert ring.fingerprint("k1") in done.stdout
        assert ring.made["k1"][:10] in done.stdout
        secrets = [base64.b64encode(ring.keys["k1"]).decode(), load_pseudonym_key(home).secret.hex()]
        assert not any(secret[:8] in done.stdout + done.stderr for secret in secrets)
    listed = json.loads(done.stdout)["vault"]
    assert [(row["key"], row["active"], row["entries"]) for row in listed] == [("k1", True, 4)]  # with the check
