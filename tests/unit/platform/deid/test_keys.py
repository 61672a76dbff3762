from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.deid.keys import (
    VaultKeys,
    dump_vault_keys,
    load_pseudonym_key,
    load_valkey_password,
    load_vault_keys,
    make_missing_keys,
    pseudonym_key_file,
    replace_secret,
    valkey_password_file,
    vault_key_file,
    with_new_vault_key,
)
from fetalmlops.platform.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / "home").model_copy(update={"provision_keys": True})


@pytest.fixture
def with_keys(settings: Settings) -> Settings:
    make_missing_keys(settings)
    return settings


def test_keys_are_made_for_their_owner_only(settings: Settings) -> None:
    made = make_missing_keys(settings)

    assert made == [pseudonym_key_file(settings), vault_key_file(settings), valkey_password_file(settings)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE(settings.secrets_folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in settings.secrets_folder.iterdir()) == sorted(path.name for path in made)


def test_made_keys_load(with_keys: Settings) -> None:
    assert len(load_pseudonym_key(with_keys).secret) == 32
    ring = load_vault_keys(with_keys)
    assert len(ring.keys[ring.active]) == 64
    assert len(load_valkey_password(with_keys)) >= 32


def test_existing_keys_stay(with_keys: Settings) -> None:
    before = load_pseudonym_key(with_keys)

    assert make_missing_keys(with_keys) == []
    assert load_pseudonym_key(with_keys) == before


def test_two_homes_have_different_keys(tmp_path: Path) -> None:
    fingerprints = set()
    for name in ("one", "two"):
        settings = load_settings(tmp_path / name).model_copy(update={"provision_keys": True})
        make_missing_keys(settings)
        fingerprints.add(load_pseudonym_key(settings).fingerprint)

    assert len(fingerprints) == 2


def test_no_key_is_made_where_it_is_not_allowed(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)

    with pytest.raises(SettingsError, match=r"pseudonym\.key, got no such file"):
        make_missing_keys(settings)
    assert not settings.secrets_folder.exists()


@pytest.mark.parametrize("lost", [pseudonym_key_file, vault_key_file])
@pytest.mark.parametrize("data", ["objects/phi/arrival/object.dcm", "data/kafka/meta.properties"])
def test_a_lost_key_is_not_replaced_beside_data(with_keys: Settings, lost, data: str) -> None:
    (with_keys.home / data).parent.mkdir(parents=True)
    (with_keys.home / data).touch()
    lost(with_keys).unlink()

    with pytest.raises(SettingsError, match="restore it from a backup"):
        make_missing_keys(with_keys)
    assert not lost(with_keys).exists()


def test_a_lost_password_is_replaced_beside_data(with_keys: Settings) -> None:
    (with_keys.home / "data").mkdir()
    (with_keys.home / "data" / "file").touch()
    valkey_password_file(with_keys).unlink()

    assert make_missing_keys(with_keys) == [valkey_password_file(with_keys)]


@pytest.mark.parametrize("load", [load_pseudonym_key, load_vault_keys, load_valkey_password])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(with_keys: Settings, load, mode: int) -> None:
    for path in with_keys.secrets_folder.iterdir():
        path.chmod(mode)

    with pytest.raises(SettingsError, match=f"got mode {mode:04o}; run `chmod 600`"):
        load(with_keys)


@pytest.mark.parametrize("load", [load_pseudonym_key, load_vault_keys, load_valkey_password])
def test_a_key_that_was_opened_to_its_group_on_purpose_is_read_by_its_owner(with_keys: Settings, load) -> None:
    before = load(with_keys)
    for path in with_keys.secrets_folder.iterdir():
        path.chmod(0o440)

    assert load(with_keys) == before


@pytest.mark.parametrize("load", [load_pseudonym_key, load_vault_keys, load_valkey_password])
def test_a_missing_key_is_named(settings: Settings, load) -> None:
    with pytest.raises(SettingsError, match="got no such file"):
        load(settings)


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32, "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_malformed_pseudonym_key_is_refused_without_quoting_it(with_keys: Settings, text: str) -> None:
    pseudonym_key_file(with_keys).write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_pseudonym_key(with_keys)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    "ring",
    [
        "",
        "[]",
        "{}",
        '{"active": "k1", "keys": []}',
        '{"active": "k1", "keys": {"k1": 5}}',
        '{"active": "k1", "keys": {"k1": "not base64!"}}',
        json.dumps({"active": "k1", "keys": {"k1": base64.b64encode(bytes(32)).decode()}}),
        json.dumps({"active": "k2", "keys": {"k1": base64.b64encode(bytes(64)).decode()}}),
    ],
)
def test_a_malformed_ring_is_refused(with_keys: Settings, ring: str) -> None:
    vault_key_file(with_keys).write_text(ring)

    with pytest.raises(SettingsError):
        load_vault_keys(with_keys)


def test_a_rotated_ring_keeps_the_older_key() -> None:
    ring = VaultKeys("k2", {"k1": b"a" * 64, "k2": b"b" * 64})

    assert ring.keys[ring.active] == b"b" * 64
    assert "aaa" not in repr(ring)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_new_vault_key_is_active_and_the_older_ones_stay(with_keys: Settings, mode: int) -> None:
    old = load_vault_keys(with_keys)
    vault_key_file(with_keys).chmod(mode)

    replace_secret(vault_key_file(with_keys), dump_vault_keys(with_new_vault_key(old)))

    new = load_vault_keys(with_keys)
    assert (new.active, list(new.keys), list(new.made)) == ("k2", ["k1", "k2"], ["k1", "k2"])
    assert new.keys["k1"] == old.keys["k1"] != new.keys["k2"]
    assert new.fingerprint("k1") == old.fingerprint("k1") != new.fingerprint("k2")
    assert stat.S_IMODE(vault_key_file(with_keys).stat().st_mode) == mode
    assert len(list(with_keys.secrets_folder.iterdir())) == 3


def test_a_ring_without_ages_is_still_read(with_keys: Settings) -> None:
    ring = {"active": "k1", "keys": {"k1": base64.b64encode(bytes(64)).decode()}}
    vault_key_file(with_keys).write_text(json.dumps(ring))

    assert load_vault_keys(with_keys).made == {}


def test_one_who_is_not_the_owner_of_the_ring_is_told_so_and_leaves_it(with_keys: Settings) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user for the test")
    path = vault_key_file(with_keys)
    path.chmod(0o440)
    before = path.read_bytes()
    # As one that was given the folder, but is neither the file's owner nor root.
    with tempfile.TemporaryDirectory() as open_folder:
        place = Path(open_folder) / path.name
        shutil.copy(path, place)
        Path(open_folder).chmod(0o777)
        os.seteuid(65534)
        try:
            with pytest.raises(SettingsError, match="run as its owner"):
                replace_secret(place, "{}")
        finally:
            os.seteuid(0)
        assert place.read_bytes() == before
