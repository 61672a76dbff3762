"""Who may come in: keys, addresses and certificates."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from fetalmlops.gateway.accounts import add_key, remove_key
from fetalmlops.platform.service import EXIT_CONFIGURATION
from support.authority import Authority
from support.gateway import GatewayProcess, InferenceProcess


def start(home: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = {"FETALMLOPS_HOME": str(home), "FETALMLOPS_GATEWAY__PORT": "0"}
    environment |= {f"FETALMLOPS_GATEWAY__{name}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "fetalmlops.gateway"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_other_machines_need_a_key(tmp_path: Path) -> None:
    done = start(tmp_path, HOST="0.0.0.0")
    assert done.returncode == EXIT_CONFIGURATION
    assert "fetalmlops keys gateway add" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"HOST": "192.0.2.1", "PORT": 1}, "gateway.host"),
        ({"TLS__ENABLED": "true"}, "gateway.tls.certificate_file"),
        ({"TLS__ENABLED": "true", "TLS__CERTIFICATE_FILE": "absent", "TLS__KEY_FILE": "absent"}, "gateway.tls"),
    ],
)
def test_wrong_settings_end_the_process_and_name_themselves(
    tmp_path: Path, settings: dict[str, object], named: str
) -> None:
    add_key(tmp_path / "secrets" / "gateway-keys.toml", "ris")
    done = start(tmp_path, **settings)
    assert done.returncode == EXIT_CONFIGURATION
    assert named in done.stderr


@pytest.mark.slow
def test_a_first_key_closes_the_door_and_the_last_ones_removal_does_not_open_it(
    inference: InferenceProcess, tmp_path: Path
) -> None:
    def status(client: httpx.Client) -> int:
        return client.get("/v1/models").status_code

    def wait_for(client: httpx.Client, expected: int) -> None:
        end = time.monotonic() + 30
        while status(client) != expected:
            assert time.monotonic() < end
            time.sleep(0.1)

    path = tmp_path / "secrets" / "gateway-keys.toml"
    with GatewayProcess(tmp_path, inference, keyed=False) as gateway, gateway.client(keyed=False) as client:
        assert status(client) == 200
        key = add_key(path, "ris")
        wait_for(client, 401)
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        remove_key(path, "ris")
        end = time.monotonic() + 30
        while client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code != 401:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert status(client) == 401


@pytest.mark.slow
def test_only_callers_with_a_certificate_of_the_authority_come_in(inference: InferenceProcess, tmp_path: Path) -> None:
    import ssl

    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    server = ours.issue("server")
    settings = {
        "GATEWAY__TLS__ENABLED": "true",
        "GATEWAY__TLS__CERTIFICATE_FILE": server["certificate_file"],
        "GATEWAY__TLS__KEY_FILE": server["key_file"],
        "GATEWAY__TLS__CA_FILE": ours.file,
        "GATEWAY__TLS__REQUIRE_CLIENT_CERTIFICATE": "true",
    }
    mine, theirs = ours.issue("client"), foreign.issue("client")
    contexts = {name: ssl.create_default_context(cafile=str(ours.file)) for name in ("ours", "foreign", "none")}
    contexts["ours"].load_cert_chain(mine["certificate_file"], mine["key_file"])
    contexts["foreign"].load_cert_chain(theirs["certificate_file"], theirs["key_file"])
    with GatewayProcess(tmp_path, inference, proof=contexts["ours"], **settings) as gateway:
        for name, context in contexts.items():
            with httpx.Client(base_url=gateway.url, verify=context, trust_env=False) as client:
                if name == "ours":
                    headers = {"Authorization": f"Bearer {gateway.key}"}
                    assert client.get("/v1/models", headers=headers).status_code == 200
                else:
                    with pytest.raises(httpx.HTTPError):
                        client.get("/v1/models")
