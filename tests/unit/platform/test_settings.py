from __future__ import annotations

from pathlib import Path

import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.settings import load_settings


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    monkeypatch.setenv("FETALMLOPS_SECRETS_DIR", str(folder))
    return folder


def test_a_mounted_secret_is_a_setting_named_as_its_variable(secrets: Path, tmp_path: Path) -> None:
    (secrets / "FETALMLOPS_VALKEY__PASSWORD").write_text("from-a-file\n")

    assert load_settings(tmp_path).valkey.password.get_secret_value() == "from-a-file"


def test_the_environment_wins_over_a_secret_and_a_secret_over_the_file(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fetalmlops.toml").write_text(
        '[kafka]\nsasl_mechanism = "PLAIN"\nsasl_username = "file"\nsasl_password = "file"\n'
    )
    (secrets / "FETALMLOPS_KAFKA__SASL_USERNAME").write_text("secret")
    (secrets / "FETALMLOPS_KAFKA__SASL_PASSWORD").write_text("secret")
    monkeypatch.setenv("FETALMLOPS_KAFKA__SASL_PASSWORD", "environment")

    kafka = load_settings(tmp_path).kafka

    assert (kafka.sasl_username, kafka.sasl_password.get_secret_value()) == ("secret", "environment")


def test_other_files_are_no_settings(secrets: Path, tmp_path: Path) -> None:
    (secrets / "pseudonym.key").write_text("00")

    assert load_settings(tmp_path).valkey.password.get_secret_value() == ""


def test_a_missing_folder_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETALMLOPS_SECRETS_DIR", str(tmp_path / "none"))

    assert load_settings(tmp_path).valkey.port == 6379


def test_a_secret_that_is_no_text_is_a_fault_that_names_no_value(secrets: Path, tmp_path: Path) -> None:
    (secrets / "FETALMLOPS_VALKEY__PASSWORD").write_bytes(b"CANARY\xff")

    with pytest.raises(SettingsError, match="FETALMLOPS_SECRETS_DIR") as raised:
        load_settings(tmp_path)

    assert "CANARY" not in str(raised.value)


def test_the_sources_table_may_stand_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(tmp_path).sources_file == tmp_path / "sources.toml"

    monkeypatch.setenv("FETALMLOPS_SOURCES_PATH", str(tmp_path / "mounted" / "table.toml"))

    assert load_settings(tmp_path).sources_file == tmp_path / "mounted" / "table.toml"


@pytest.mark.parametrize(
    "kafka",
    ['sasl_username = "stage"', 'sasl_username = "stage"\nsasl_password = "x-secret"', 'sasl_mechanism = "PLAIN"'],
)
def test_credentials_that_would_not_be_used_are_refused(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "fetalmlops.toml").write_text(f"[kafka]\n{kafka}\n")

    with pytest.raises(SettingsError, match="Expected sasl_mechanism and sasl_username together") as error:
        load_settings(tmp_path)
    assert "x-secret" not in str(error.value)


def test_files_of_tls_without_tls_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETALMLOPS_VALKEY__TLS__CA_FILE", "/somewhere/ca.pem")

    with pytest.raises(SettingsError, match=r"valkey\.tls.*set enabled"):
        load_settings(tmp_path)
