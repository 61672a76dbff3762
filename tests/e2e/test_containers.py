"""The system in containers, as docker-compose.yml describes it, on a real Docker engine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fetalmlops.domain.simulation import StudySpec, make_study

ROOT = Path(__file__).parents[2]
INSTANCES = 12
OWN = ("listener", "anonymizer", "keeper", "normalizer", "inference", "classifier")
SERVERS = ("kafka", "valkey")
STOP_GRACE_S = 40
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Stack:
    """One composed system under a name of its own, with a sources table of its own."""

    def __init__(self, config: Path) -> None:
        self.name = f"fetalmlops-test-{uuid.uuid4().hex[:8]}"
        self.port = free_port()
        self.rest_port = free_port()
        self.config = config
        ports = {"DICOM_PORT": str(self.port), "REST_PORT": str(self.rest_port)}
        self.environment = {**os.environ, **ports, "CONFIG": str(config)}
        self.sent: list[int] = []

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        return run("docker", "compose", "-p", self.name, *arguments, environment=self.environment, seconds=seconds)

    def up(self, *arguments: str) -> None:
        self.compose("up", "--detach", "--wait", "--no-build", *arguments)

    @contextmanager
    def profile(self, name: str, **environment: str) -> Iterator[None]:
        """Run the services of a profile, too, and take away the one of its name at the end."""
        usual = self.environment
        self.environment = {**usual, **environment}
        try:
            self.compose("--profile", name, "up", "--detach", "--wait", "--no-build")
            yield
        finally:
            self.compose("--profile", name, "rm", "--stop", "--force", name)
            self.environment = usual

    def exec(self, service: str, *command: str) -> str:
        return self.compose("exec", "-T", service, *command)

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "--all", "--quiet", service).split()[0]
        found: list[dict[str, Any]] = json.loads(run("docker", "inspect", container))
        return found[0]

    def send(self, seed: int, *, check: bool = True) -> bool:
        """Send a simulated study from this machine to the published port; return whether all of it was stored."""
        command = [str(Path(sys.executable).with_name("fetalmlops")), "simulate", "--instances", str(INSTANCES)]
        address = ["--seed", str(seed), "--host", "127.0.0.1", "--port", str(self.port)]
        done = subprocess.run([*command, *address], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        self.sent = sorted({*self.sent, seed})
        return done.returncode == 0

    def classify(self, image: bytes, key: str = "") -> tuple[int, dict[str, Any]]:
        """POST a DICOM file to the gateway's published port; return the status and the answer."""
        headers = {"Content-Type": "application/dicom", **({"Authorization": f"Bearer {key}"} if key else {})}
        url = f"http://127.0.0.1:{self.rest_port}/v1/classifications"
        request = urllib.request.Request(url, data=image, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def results(self) -> dict[str, dict[str, Any]]:
        """Wait until everything that was sent has a current result; return them by instance."""
        expected = len(self.sent) * INSTANCES
        lines = self.exec(
            "keeper", "fetalmlops", "results", "--json", "--expect", str(expected), "--timeout", "150"
        ).splitlines()
        found = {result["context"]["instance"]: result for result in map(json.loads, lines)}
        assert len(found) == expected
        return found

    def crash(self, service: str) -> None:
        """Kill what runs in a service's container, and wait until the engine has started it again and it can work."""
        before = self.inspect(service)["RestartCount"]
        # Whoever kills may be killed, too: its exit code says nothing.
        subprocess.run(
            ["docker", "exec", self.inspect(service)["Id"], "sh", "-c", "kill -9 -1"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        wait_until(lambda: self.inspect(service)["RestartCount"] > before, f"{service} is started again")
        wait_until(lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", f"{service} can work")


def run(*command: str, environment: dict[str, str] | None = None, seconds: float = 120) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"Expected within {seconds:.0f} s that {what}"
        time.sleep(0.5)


def answers(*command: str) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    if not answers("docker", "version"):
        pytest.skip("no Docker engine answers")
    if not answers("docker", "compose", "version"):
        pytest.skip("docker has no compose plugin")
    images = run("docker", "compose", "config", "--images").split()
    missing = sorted({image for image in images if not answers("docker", "image", "inspect", image)})
    if missing:
        pytest.skip(f"images are missing: {', '.join(missing)}; run docker compose build, docker compose pull")
    # Another user than ours has to read it, which forbids pytest's own folders.
    config = Path(tempfile.mkdtemp(prefix="fetalmlops-config-"))
    shutil.copytree(ROOT / "deploy" / "docker" / "config", config, dirs_exist_ok=True)
    config.chmod(0o755)
    stack = Stack(config)
    try:
        stack.up()
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
        shutil.rmtree(config)


def test_every_container_is_closed(stack: Stack) -> None:
    volumes: dict[str, set[str]] = {}
    for service in (*OWN, *SERVERS):
        found = stack.inspect(service)
        status = stack.exec(service, "cat", "/proc/1/status")
        facts = dict(line.split(":", 1) for line in status.splitlines())
        assert "0" not in facts["Uid"].split(), service
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0, service
        assert facts["NoNewPrivs"].strip() == "1", service
        assert found["HostConfig"]["ReadonlyRootfs"], service
        ports = {port: bindings for port, bindings in found["NetworkSettings"]["Ports"].items() if bindings}
        published = [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]
        assert ports == ({"11112/tcp": published} if service == "listener" else {}), service
        for mount in found["Mounts"]:
            if mount["Type"] == "volume":
                volumes.setdefault(mount["Name"].removeprefix(f"{stack.name}_"), set()).add(service)

    assert volumes.pop("phi") == {"listener", "anonymizer", "keeper"}
    assert volumes.pop("anonymizer-keys") == {"anonymizer"}
    assert volumes.pop("listener-keys") == {"listener"}
    assert set(volumes) == {"clean", "credentials", "kafka", "valkey"}
    assert stack.exec("listener", "sh", "-c", "ls secrets").split() == ["pseudonym.key"]


def test_a_study_ends_in_results(stack: Stack) -> None:
    stack.send(1)

    assert len(stack.results()) == INSTANCES


def test_sources_count_at_once(stack: Stack) -> None:
    table = stack.config / "sources.toml"
    listed = table.read_text()
    draft = stack.config / "draft"
    draft.write_text(listed.replace('"FETALSIM"', '"OTHER"'))
    draft.chmod(0o644)
    draft.replace(table)
    try:
        wait_until(lambda: not stack.send(1, check=False), "a source that is no longer listed is refused")
    finally:
        table.write_text(listed)
    wait_until(lambda: stack.send(1, check=False), "the source is accepted again")


@pytest.mark.parametrize("service", [*SERVERS, *OWN])
def test_what_crashes_comes_back_and_nothing_is_lost(stack: Stack, service: str) -> None:
    seed = 100 + [*SERVERS, *OWN].index(service)
    stack.send(seed)
    stack.crash(service)
    wait_until(lambda: stack.send(seed + 50, check=False), "all is stored, sent again as a PACS would")

    stack.results()


def test_a_killed_container_is_started_again_by_compose(stack: Stack) -> None:
    run("docker", "kill", stack.inspect("classifier")["Id"])
    stack.send(2)
    stack.up()

    stack.results()


def test_a_service_may_have_several_copies(stack: Stack) -> None:
    stack.up("--scale", "normalizer=2")
    copies = stack.compose("ps", "--quiet", "normalizer").split()
    stack.send(3)
    stack.results()
    stack.up("--scale", "normalizer=1")

    assert len(copies) == 2


def test_the_gateway_answers_whoever_has_a_key(stack: Stack) -> None:
    (image,) = make_study(StudySpec(seed=5, instances=1))
    key = stack.compose("run", "--rm", "-T", "gateway-keys", "add", "tester").strip()
    with stack.profile("gateway"):
        status, answer = stack.classify(image.data, key)
        refused, problem = stack.classify(image.data)
        ports = stack.inspect("gateway")["NetworkSettings"]["Ports"]

    assert (status, answer["model"]["name"]) == (200, "demonstration")
    assert (refused, problem["reason"]) == (401, "key")
    assert {port: bound for port, bound in ports.items() if bound} == {
        "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.rest_port)}]
    }


def test_a_shadow_judges_beside_the_champion(stack: Stack) -> None:
    promote = ("fetalmlops", "promote", "demonstration", "--role", "shadow", "--account", "tester", "--reason", "test")
    with stack.profile("shadow", SHADOW="true"):
        said = stack.compose("run", "--rm", "-T", "provision", *promote)
        stack.send(6)
        stack.results()
        # Events from before the promotion may be among them.
        wait_until(lambda: judged_by_both(stack) >= INSTANCES, "the shadow has judged as many as were sent", 120)

    assert "The inference service serves it" in said


def judged_by_both(stack: Stack) -> int:
    return sum(
        pair["instances"] for pair in json.loads(stack.exec("keeper", "fetalmlops", "models", "shadow", "--json"))
    )


def test_logs_are_json_and_hold_no_identifier(stack: Stack) -> None:
    logs = {service: stack.compose("logs", "--no-log-prefix", service) for service in (*OWN, *SERVERS)}
    planted = {
        text
        for seed in stack.sent
        for instance in make_study(StudySpec(seed=seed, instances=INSTANCES))
        for text in instance.planted
    }

    assert len(planted) > INSTANCES
    for service, log in logs.items():
        assert log.strip(), service
        assert "CANARY" not in log, service
        # Shorter ones, such as a date, may be part of a number by chance.
        assert not [text for text in planted if len(text) >= 10 and text in log], service
    for service in OWN:
        for line in logs[service].splitlines():
            assert json.loads(line)["process"] == service


def test_state_outlives_the_containers(stack: Stack) -> None:
    before = stack.results()
    begun = time.monotonic()
    stack.compose("stop")
    stopped = time.monotonic() - begun
    codes = {service: stack.inspect(service)["State"]["ExitCode"] for service in (*OWN, *SERVERS)}
    stack.compose("down")
    stack.up()
    stack.send(1)
    stack.send(4)
    after = stack.results()

    assert stopped < STOP_GRACE_S
    # Java says by 143 that it ended on a SIGTERM.
    assert codes == {**dict.fromkeys(OWN, 0), "valkey": 0, "kafka": 143}
    assert {key: after[key]["ce_id"] for key in before} == {key: value["ce_id"] for key, value in before.items()}
