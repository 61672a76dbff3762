"""The store that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.store import LocalStore, S3Store

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.objects.store import ObjectStore
from fetalmlops.platform.settings import TlsSettings
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from obstore.store import ClientConfig

    from fetalmlops.platform.settings import Settings

__all__ = ["open_objects"]


def open_objects(settings: Settings, *zones: Zone) -> ObjectStore:
    """Open the object store of the settings, for the zones that a process may reach (default: both).

    Raises
    ------
    SettingsError
        If a URL is neither ``file://`` nor ``s3://``, or ``objects.s3_ca_file`` cannot be used.
    """
    stores: dict[Zone, LocalStore | S3Store] = {}
    folders: dict[Zone, Path] = {}
    for zone in zones or tuple(Zone):
        url = urlsplit(settings.phi_url if zone is Zone.PHI else settings.clean_url)
        if url.scheme == "file":
            folders[zone] = Path(unquote(url.path))
            folders[zone].mkdir(mode=0o700, parents=True, exist_ok=True)
            stores[zone] = LocalStore(folders[zone])
        elif url.scheme == "s3":
            stores[zone] = _open_s3(settings, url.netloc, url.path.strip("/"))
        else:
            msg = f"Expected objects.{zone}_url to begin with file:// or s3://, got the scheme {url.scheme!r}"
            raise SettingsError(msg)
    return ObjectStore(stores, folders)


def _open_s3(settings: Settings, bucket: str, prefix: str) -> S3Store:
    objects = settings.objects
    client: ClientConfig = {"allow_http": objects.s3_allow_http}
    if objects.s3_ca_file is not None:
        # Asked of the platform's TLS first: the store's own words about a wrong file name neither file nor setting.
        client_ssl_context(TlsSettings(enabled=True, ca_file=objects.s3_ca_file), "objects.s3_ca_file")
        client["root_certificate"] = objects.s3_ca_file.read_bytes()
    return S3Store(
        bucket,
        prefix=prefix or None,
        endpoint=objects.s3_endpoint or None,
        region=objects.s3_region,
        access_key_id=objects.s3_access_key_id.get_secret_value() or None,
        secret_access_key=objects.s3_secret_access_key.get_secret_value() or None,
        virtual_hosted_style_request=False,
        client_options=client,
    )
