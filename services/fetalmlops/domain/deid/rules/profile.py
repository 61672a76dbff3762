"""Profiles: a named choice of rules, with a digest of all that decides the output.

A profile is a TOML file; those that come with the package are in ``profiles/``. What a profile keeps although Table E.1-1
removes it, it must keep by an option that it names: another profile is refused when it is read.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from importlib import resources

import msgspec

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.deid.rules import attributes as rules
from fetalmlops.domain.deid.rules import content
from fetalmlops.domain.deid.rules.concepts import known_concepts
from fetalmlops.domain.deid.rules.dates import DatePolicy
from fetalmlops.domain.deid.rules.exports import GROUPS, Group
from fetalmlops.domain.deid.rules.private import SafePrivate  # noqa: TC001 - msgspec reads the annotation when a profile is read
from fetalmlops.domain.deid.rules.table import EDITION, Option, standard_table
from fetalmlops.domain.errors import SettingsError

__all__ = ["PROFILES", "STREAM", "CodePolicy", "Profile", "RegionPolicy", "packaged_profile", "read_profile"]

_DATE_OPTIONS = {
    DatePolicy.NONE: frozenset[Option](),
    DatePolicy.SHIFT: frozenset({Option.MODIFIED_DATES}),
    DatePolicy.YEAR: frozenset({Option.MODIFIED_DATES}),
    DatePolicy.FULL: frozenset({Option.FULL_DATES}),
}
_GROUPS = {
    Option.DEVICE: Group.DEVICE,
    Option.PATIENT: Group.PATIENT,
    Option.DESCRIPTORS: Group.DESCRIPTORS,
    Option.INSTITUTION: Group.INSTITUTION,
}
_HANDLED = frozenset({Option.FULL_DATES, Option.MODIFIED_DATES, Option.STRUCTURED, Option.SAFE_PRIVATE, *_GROUPS})


class CodePolicy(StrEnum):
    """Where codes come from: an HMAC under the project's key, or a book of random ones."""

    KEYED = "keyed"
    RANDOM = "random"


@dataclass(frozen=True)
class RegionPolicy:
    """When ultrasound regions prove that the pixels within them hold the picture and not the screen around it.

    Parameters
    ----------
    formats
        Region Spatial Formats whose areas are kept: 2D, M-Mode, Spectral, Waveform; not Graphics, not None.
    most
        Most regions of one image.
    least_side
        Shortest side of a kept region in pixels.
    least_share, most_share
        Share of the image that the kept regions may cover. An image that is covered virtually whole proves nothing: its
        regions leave no room for the band in which scanners write the patient's name.
    """

    formats: tuple[int, ...] = (1, 2, 3, 4)
    most: int = 64
    least_side: int = 16
    least_share: float = 0.05
    most_share: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What de-identification is to do.

    Parameters
    ----------
    name
        Name of the profile, part of every event about its outputs.
    version
        Raised with every change of behaviour that the rules' data does not show.
    purpose
        What it is for, in one line.
    options
        The options of PS3.15 E.3 that it takes.
    keep
        Groups of attributes that it keeps beyond those that every image needs.
    dates
        What becomes of dates and times.
    codes
        What takes the place of patient ids and UIDs.
    regions
        When regions prove the pixels.
    private
        Private attributes that it keeps.

    Raises
    ------
    SettingsError
        If it keeps what the table removes, or takes options that contradict each other or its dates.
    """

    name: str
    version: int
    purpose: str = ""
    options: tuple[Option, ...] = ()
    keep: tuple[Group, ...] = ()
    dates: DatePolicy = DatePolicy.NONE
    codes: CodePolicy = CodePolicy.KEYED
    regions: RegionPolicy = field(default_factory=RegionPolicy)
    private: tuple[SafePrivate, ...] = ()

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.options) - _HANDLED):
            _refuse(f"options among {', '.join(sorted(_HANDLED))}", f"{', '.join(unknown)}", "leave them out")
        self._check_dates()
        self._check_groups()
        self._check_private()

    def _check_dates(self) -> None:
        expected = _DATE_OPTIONS[self.dates]
        if {Option.FULL_DATES, Option.MODIFIED_DATES}.intersection(self.options) != expected:
            named = ", ".join(expected) or "neither option of dates"
            _refuse(f"{named} with the dates policy {self.dates}", "other options", "make them agree")
        if self.dates is DatePolicy.SHIFT and self.codes is CodePolicy.RANDOM:
            _refuse("keyed codes where dates are shifted by a key", "random ones", "take another dates policy")

    def _check_groups(self) -> None:
        for option, group in _GROUPS.items():
            if option in self.options and group not in self.keep:
                _refuse(f"the group {group} with the option {option}", "none", "keep it or leave the option out")
        if len(set(self.keep)) < len(self.keep):
            _refuse("each group once", "one twice", "leave one out")
        for rule in self.image:
            if not standard_table().rule(rule.tag, self.options).keeps:
                _refuse(
                    f"an option by which {rule.keyword} may be kept", "none", "add the option or leave the group out"
                )

    def _check_private(self) -> None:
        if bool(self.private) is not (Option.SAFE_PRIVATE in self.options):
            _refuse(
                f"private attributes and the option {Option.SAFE_PRIVATE} together",
                "one of them",
                "add or drop the other",
            )
        if len({rule.key for rule in self.private}) < len(self.private):
            _refuse("each private attribute once", "one twice", "leave one out")

    @property
    def edition(self) -> str:
        """Edition of PS3.15 that the rules follow."""
        return EDITION

    @cached_property
    def groups(self) -> tuple[rules.Keep, ...]:
        """What the profile's groups keep, of every kind of instance."""
        return tuple(rule for group in self.keep for rule in GROUPS[group])

    @cached_property
    def image(self) -> tuple[rules.Keep, ...]:
        """What is kept of an image."""
        return (*rules.IMAGE, *self.groups)

    @cached_property
    def document(self) -> tuple[rules.Keep, ...]:
        """What is kept of a document."""
        return (*rules.DOCUMENT, *self.groups)

    @property
    def keeps_text(self) -> bool:
        """Whether it keeps any text, which must then be free of what names the patient."""
        return bool({Group.DEVICE, Group.DESCRIPTORS, Group.INSTITUTION}.intersection(self.keep))

    @property
    def keeps_content(self) -> bool:
        """Whether documents keep a clean tree of their content."""
        return Option.STRUCTURED in self.options

    @property
    def keeps_references(self) -> bool:
        """Whether images keep their references to other images."""
        return Group.REFERENCES in self.keep

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the profile, of the table, and of the rules' data."""
        data = (
            self.name,
            self.version,
            self.options,
            self.keep,
            self.dates,
            self.codes,
            self.regions,
            standard_table().digest,
            rules.SOP_CLASSES,
            _described(self.image),
            _described(rules.REGION),
            _described(self.document),
            rules.EMPTIED,
            rules.DEFAULTS,
            [sorted(words) for words in rules.IMAGE_TYPE_WORDS],
            rules.PALETTE,
            rules.REFERENCES,
            sorted(STORAGE_CLASSES),
            self.private,
            known_concepts().digest,
            _content_rules(),
        )
        return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


def read_profile(data: bytes) -> Profile:
    """Return the profile of a TOML file.

    Raises
    ------
    SettingsError
        If the file is no such TOML, or the profile contradicts the table.
    """
    try:
        values = tomllib.loads(data.decode())
        if unknown := sorted(values.keys() - {item.name for item in fields(Profile)}):
            raise msgspec.ValidationError(", ".join(unknown))
        return msgspec.convert(values, Profile)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = (
            "Expected a profile as TOML with name, version, options, keep, dates, codes, regions and private, got another file:"
            f" {error}"
        )
        raise SettingsError(msg) from None


def _refuse(expected: str, got: str, remedy: str) -> None:
    msg = f"Expected {expected}, got {got}; {remedy}"
    raise SettingsError(msg)


def _described(keep: tuple[rules.Keep, ...]) -> list[tuple[object, ...]]:
    """Return rules in a form that is the same in every process: sets in order."""
    return [(rule.tag, rule.vr, type(rule.check).__name__, _plain(rule.check)) for rule in keep]


def _content_rules() -> list[tuple[str, object]]:
    """Return the rules for the content of documents, sets in order."""
    found = ((name, getattr(content, name)) for name in content.__all__)
    return [(name, sorted(value) if isinstance(value, frozenset) else value) for name, value in found]


def _plain(check: object) -> dict[str, object]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in sorted(vars(check).items())
    }


def packaged_profile(name: str) -> bytes:
    """Return the TOML of a profile that comes with the package."""
    return (resources.files("fetalmlops.domain.deid.rules") / "profiles" / f"{name}.toml").read_bytes()


def _packaged() -> dict[str, Profile]:
    folder = resources.files("fetalmlops.domain.deid.rules") / "profiles"
    found = [read_profile(file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".toml")]
    return {profile.name: profile for profile in sorted(found, key=lambda profile: profile.name)}


PROFILES = _packaged()
"""The profiles that come with the package, by name."""

STREAM = PROFILES["stream"]
"""What the anonymizer runs: no dates, no text, identity to the vault."""
