"""The vault in a real Valkey: what is put comes back, nothing is readable without the key, and a wrong key is found."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.deid import Identity, InstanceIdentity, PatientIdentity, Pseudonyms, StudyIdentity
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.deid.keys import VaultKeys
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.keyvalue import open_valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from fetalmlops.platform.settings import Settings

OLD, NEW = secrets.token_bytes(64), secrets.token_bytes(64)


def identity(number: int = 1) -> Identity:
    pseudonyms = Pseudonyms(patient="a" * 32, study="b" * 32, series="c" * 32, instance=f"{number:032x}")
    return Identity(
        pseudonyms=pseudonyms,
        patient=PatientIdentity(name="CANARY^PATIENT-0001", id="CANARY-4711", birth_date="19900101", sex="F"),
        study=StudyIdentity(uid="1.2.826.0.1.3680043.10.999.1", patient="a" * 32, accession="CANARY-ACC"),
        instance=InstanceIdentity(
            uid=f"1.2.826.0.1.3680043.10.999.1.{number}", study="b" * 32, series_uid="1.2.3", sop_class_uid="1.2.4"
        ),
    )


def with_valkey(settings: Settings, test: Callable[[Redis, str], Awaitable[None]]) -> None:
    async def run() -> None:
        valkey = open_valkey(settings)
        try:
            await test(valkey, f"test-{uuid.uuid4().hex[:8]}")
        finally:
            await valkey.aclose()

    asyncio.run(run())


async def records(valkey: Redis, project: str) -> dict[str, bytes]:
    names = [name async for name in valkey.scan_iter(match=f"vault:{project}:*", count=1000, _type="string")]
    return {bytes(name).decode(): await valkey.get(name) for name in names}


def test_what_is_put_comes_back_and_duplicates_add_nothing(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        vault = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await vault.verify()
        await vault.put(identity())
        before = await records(valkey, project)
        for number in (1, 1, 2):
            await vault.put(identity(number))
        after = await records(valkey, project)
        assert {name: after[name] for name in before} == before
        assert len(after) == len(before) + 1 == 5
        assert await vault.patient("a" * 32) == identity().patient
        assert await vault.study("b" * 32) == identity().study
        assert await vault.instance(f"{2:032x}") == identity(2).instance
        assert await vault.patient("f" * 32) is None

    with_valkey(embedded, test)


def test_nothing_is_readable_without_the_key(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        vault = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await vault.put(identity())
        kept = await records(valkey, project)
        assert len(kept) == 3
        assert not any(text in data for data in kept.values() for text in (b"CANARY", b"3680043", b"19900101"))
        assert all(data[:4] == b"\x01\x02k1" for data in kept.values())

    with_valkey(embedded, test)


@pytest.mark.parametrize("ring", [VaultKeys("k1", {"k1": NEW}), VaultKeys("k2", {"k2": NEW})], ids=["wrong", "missing"])
def test_a_wrong_or_missing_key_is_said_plainly(embedded: Settings, ring: VaultKeys) -> None:
    async def test(valkey: Redis, project: str) -> None:
        right = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await right.verify()
        await right.put(identity())
        other = ValkeyVault(valkey, ring, project)
        for attempt in (other.verify, lambda: other.patient("a" * 32)):
            with pytest.raises(SettingsError, match="restore the vault's key file") as error:
                await attempt()
            assert "CANARY" not in str(error.value)
        await right.verify()

    with_valkey(embedded, test)


def test_an_old_key_in_the_ring_still_reads(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        before = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await before.verify()
        await before.put(identity())
        after = ValkeyVault(valkey, VaultKeys("k2", {"k1": OLD, "k2": NEW}), project)
        await after.verify()
        assert await after.study("b" * 32) == identity().study

    with_valkey(embedded, test)


def test_another_pseudonym_key_is_found_at_the_start(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        vault = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await vault.verify("0" * 16)
        before = await valkey.hgetall(f"vault:{project}:ring")
        with pytest.raises(SettingsError, match=f"fingerprint {'0' * 16} .* got {'1' * 16}; restore"):
            await vault.verify("1" * 16)
        assert await valkey.hgetall(f"vault:{project}:ring") == before

    with_valkey(embedded, test)


def test_a_key_of_the_same_name_and_another_fingerprint_writes_nothing(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        await ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project).verify()
        before = await records(valkey, project), await valkey.hgetall(f"vault:{project}:ring")
        wrong = VaultKeys("k1", {"k1": NEW})
        with pytest.raises(SettingsError, match=f"got {wrong.fingerprint('k1')}; restore"):
            await ValkeyVault(valkey, wrong, project).verify()
        assert (await records(valkey, project), await valkey.hgetall(f"vault:{project}:ring")) == before

    with_valkey(embedded, test)


def test_a_vault_from_before_rings_were_described_is_taken_over_by_its_own_key_only(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        own = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await own.verify()
        await valkey.delete(f"vault:{project}:ring")
        with pytest.raises(SettingsError):
            await ValkeyVault(valkey, VaultKeys("k1", {"k1": NEW}), project).verify()
        assert not await valkey.exists(f"vault:{project}:ring")
        await own.verify()

    with_valkey(embedded, test)


def test_a_writer_without_the_active_key_waits_and_writes_nothing(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        ring = VaultKeys("k1", {"k1": OLD})
        vault = ValkeyVault(valkey, ring, project, reload=lambda: ring)
        await vault.verify()
        await valkey.hset(f"vault:{project}:ring", mapping={"active": "k2", "key:k2": "0" * 16})
        with pytest.raises(TransientError, match="rotate") as error:
            await vault.put(identity())
        assert error.value.everyone
        assert len(await records(valkey, project)) == 1  # the check alone

    with_valkey(embedded, test)


def test_a_record_under_another_name_does_not_open(embedded: Settings) -> None:
    async def test(valkey: Redis, project: str) -> None:
        vault = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        await vault.put(identity())
        await valkey.copy(f"vault:{project}:patient:{'a' * 32}", f"vault:{project}:patient:{'d' * 32}")
        with pytest.raises(SettingsError):
            await vault.patient("d" * 32)

    with_valkey(embedded, test)


def test_valkey_away_is_transient(embedded: Settings) -> None:
    away = embedded.model_copy(update={"valkey": embedded.valkey.model_copy(update={"port": 1})})

    async def test(valkey: Redis, project: str) -> None:
        vault: Any = ValkeyVault(valkey, VaultKeys("k1", {"k1": OLD}), project)
        for attempt in (vault.verify, lambda: vault.put(identity()), lambda: vault.patient("a" * 32)):
            with pytest.raises(TransientError) as error:
                await attempt()
            assert error.value.dependency == "valkey"
            assert error.value.everyone

    with_valkey(away, test)
