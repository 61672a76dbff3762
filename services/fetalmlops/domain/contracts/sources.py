"""Sources: the systems that may send us instances, and how a caller is matched to one of them.

A caller is known by its AE title and its network address. What is not listed is refused unless the table says otherwise.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

from fetalmlops.domain.contracts.planes import Lane, Purpose
from fetalmlops.domain.errors import SettingsError

__all__ = ["UNLISTED", "PixelTrust", "Source", "Sources", "UnlistedAction", "ae_title_of"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNLISTED = "unlisted"
"""Id, and site, of every caller that is accepted without being listed."""

_AE_TITLE_LENGTH = 16


class PixelTrust(StrEnum):
    """What is known of the pixels that a source sends."""

    VALIDATE = "validate"
    """Each image has to prove that its pixels hold no text about the patient."""
    REGIONS = "regions"
    """Its scanners write outside the picture only: text is not looked for in what regions or a device profile prove."""
    CLEAN = "clean"
    """The source is declared to burn nothing in."""


class UnlistedAction(StrEnum):
    """What happens to callers that are not listed."""

    REJECT = "reject"
    ACCEPT = "accept"


def ae_title_of(text: str) -> str:
    """Return an AE title without its insignificant spaces (PS3.5 section 6.2).

    Raises
    ------
    SettingsError
        If it is empty, longer than 16 characters, or holds a backslash or a character outside printable ASCII.
    """
    title = text.strip(" ")
    if not 0 < len(title) <= _AE_TITLE_LENGTH or not (title.isascii() and title.isprintable()) or "\\" in title:
        msg = "Expected an AE title of 1 to 16 printable ASCII characters without a backslash, got another text"
        raise SettingsError(msg)
    return title


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One calling system.

    Parameters
    ----------
    id
        Name of the source in every event: lower-case letters, digits and hyphens.
    ae_title
        Its calling AE title.
    addresses
        IP addresses or networks (CIDR) that it calls from; empty: any.
    site
        Where it stands.
    purpose, lane
        Why it sends, and how urgent that is.
    pixels
        What is known of its pixels.
    host, port, tls
        Where its own Verification SCP listens, for a C-ECHO back; an empty host: nowhere.
    quiet_time_s
        Silence of a study, in seconds, after which it counts as complete.
    """

    id: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    ae_title: str
    addresses: tuple[str, ...] = ()
    site: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    purpose: Purpose = Purpose.CLINICAL
    lane: Lane = Lane.LIVE
    pixels: PixelTrust = PixelTrust.VALIDATE
    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65535)] = 104
    tls: bool = False
    quiet_time_s: Annotated[float, Meta(gt=0)] = 60.0

    def __post_init__(self) -> None:
        ae_title_of(self.ae_title)
        self.networks()
        if self.purpose is Purpose.UNKNOWN or self.lane is Lane.UNKNOWN:
            msg = f"Expected source {self.id!r} to have a purpose and a lane of the documented words, got another one"
            raise SettingsError(msg)

    def networks(self) -> tuple[Network, ...]:
        """Return the networks it calls from.

        Raises
        ------
        SettingsError
            If an address is neither an IP address nor a network.
        """
        try:
            return tuple(ipaddress.ip_network(text, strict=False) for text in self.addresses)
        except ValueError:
            msg = f"Expected the addresses of source {self.id!r} to be IP addresses or networks, got another text"
            raise SettingsError(msg) from None


@dataclass(frozen=True)
class Sources:
    """The table of sources. The first entry that fits a caller wins.

    Parameters
    ----------
    entries
        The sources, in the order of the table.
    unlisted
        What happens to callers that no entry fits.

    Raises
    ------
    SettingsError
        If two entries have the same id.

    Examples
    --------
    >>> table = Sources((Source(id="room-1", ae_title="VOLUSON", addresses=("192.0.2.0/24",), site="north"),))
    >>> table.match("VOLUSON ", "192.0.2.7").id
    'room-1'
    >>> table.match("VOLUSON", "198.51.100.1") is None
    True
    """

    entries: tuple[Source, ...] = ()
    unlisted: UnlistedAction = UnlistedAction.REJECT

    def __post_init__(self) -> None:
        ids = [source.id for source in self.entries]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice or UNLISTED in ids:
            msg = f"Expected ids of sources that are unique and not {UNLISTED!r}, got {', '.join(twice) or UNLISTED}"
            raise SettingsError(msg)

    def match(self, ae_title: str, address: str) -> Source | None:
        """Return the source of a caller; None if it is to be refused.

        Parameters
        ----------
        ae_title
            Calling AE title as sent.
        address
            IP address of the connection.
        """
        caller = _address(address)
        title = ae_title.strip(" ")
        for source, networks in self._by_title.get(title, ()):
            if not networks or (caller is not None and any(caller in network for network in networks)):
                return source
        if self.unlisted is UnlistedAction.REJECT:
            return None
        return Source(id=UNLISTED, ae_title=ae_title_of(title), site=UNLISTED)

    def get(self, source_id: str) -> Source | None:
        """Return the source with an id, None if none is listed under it."""
        return next((source for source in self.entries if source.id == source_id), None)

    @cached_property
    def _by_title(self) -> dict[str, list[tuple[Source, tuple[Network, ...]]]]:
        table: dict[str, list[tuple[Source, tuple[Network, ...]]]] = {}
        for source in self.entries:
            table.setdefault(source.ae_title.strip(" "), []).append((source, source.networks()))
        return table


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
