"""Connections: TLS, broker, key-value server, object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from fetalmlops.platform.settings.section import Port, Section

__all__ = ["KafkaSettings", "ObjectSettings", "TlsSettings", "ValkeySettings"]


class TlsSettings(Section):
    """TLS of one connection. Certificates and keys are PEM files."""

    enabled: bool = False
    """Whether to use TLS; default off (loopback)."""
    ca_file: Path | None = None
    """Authorities that the other side's certificate must come from; default: the system's."""
    certificate_file: Path | None = None
    """Our certificate, for servers and for client authentication."""
    key_file: Path | None = None
    """Key of our certificate."""
    require_client_certificate: bool = False
    """For servers: refuse clients without a certificate of `ca_file`."""

    @model_validator(mode="after")
    def _check_enabled(self) -> Self:
        """Refuse certificates that nothing would use: the connection would be one in plain text."""
        if not self.enabled and (
            self.ca_file or self.certificate_file or self.key_file or self.require_client_certificate
        ):
            msg = "Expected enabled where files of TLS are named, got none; set enabled, or leave the files out"
            raise ValueError(msg)
        return self


class KafkaSettings(Section):
    """The broker."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated ``host:port``."""
    replication_factor: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies of each topic at its creation; 3 in a cluster."""
    min_insync_replicas: Annotated[int, Field(ge=1, le=9)] = 1
    """Copies that acknowledge a write; 2 in a cluster."""
    tls: TlsSettings = TlsSettings()
    """TLS of the connection."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """SASL mechanism; empty for none."""
    sasl_username: str = ""
    """SASL user."""
    sasl_password: SecretStr = SecretStr("")
    """SASL password."""

    @model_validator(mode="after")
    def _check_sasl(self) -> Self:
        """Refuse credentials that no mechanism would use: the connection would be one without any."""
        if bool(self.sasl_mechanism) != bool(self.sasl_username):
            msg = "Expected sasl_mechanism and sasl_username together, got one of them; set both, or neither"
            raise ValueError(msg)
        return self

    @property
    def security_protocol(self) -> str:
        """Kafka's ``security.protocol``."""
        return f"SASL_{self._transport}" if self.sasl_mechanism else self._transport

    @property
    def _transport(self) -> str:
        return "SSL" if self.tls.enabled else "PLAINTEXT"


class ValkeySettings(Section):
    """The key-value server: vault, attempts, claims."""

    host: str = "127.0.0.1"
    """Host name."""
    port: Port = 6379
    """Port."""
    database: Annotated[int, Field(ge=0, le=15)] = 0
    """Database number."""
    username: str = ""
    """ACL user; empty for the default user."""
    password: SecretStr = SecretStr("")
    """Password; empty for none."""
    tls: TlsSettings = TlsSettings()
    """TLS of the connection."""


class ObjectSettings(Section):
    """The object store, one place a zone, so that each zone has its own credentials."""

    phi_url: str = ""
    """``file:///folder`` or ``s3://bucket/prefix`` of the phi zone; default: ``objects/phi`` of the state folder."""
    clean_url: str = ""
    """The same for the clean zone; default: ``objects/clean`` of the state folder."""
    s3_endpoint: str = ""
    """Endpoint of an S3-compatible store; empty for AWS."""
    s3_region: str = "us-east-1"
    """Region."""
    s3_access_key_id: SecretStr = SecretStr("")
    """Access key; empty for the environment's credentials."""
    s3_secret_access_key: SecretStr = SecretStr("")
    """Secret key."""
    s3_allow_http: bool = False
    """Whether an endpoint without TLS is allowed."""
    s3_ca_file: Path | None = None
    """PEM file of authorities that the endpoint's certificate may come from, besides the system's."""
