"""The de-identifier: a file in; out a file that holds nothing but what the rules let through, and evidence of it.

The output is built, not edited: nothing of the input gets into it except by a rule that names it. What cannot be proven clean
is refused, and so is anything unexpected.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, TYPE_CHECKING

from fetalmlops.domain.contracts.events import Deidentification
from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.deid.files import header as clean
from fetalmlops.domain.deid.files.private import clean_private, wanted_private
from fetalmlops.domain.deid.files.reader import EXPLICIT_LITTLE, Header, Wanted, read_header
from fetalmlops.domain.deid.files.writer import Attributes, encode_attributes, encode_file_meta
from fetalmlops.domain.deid.identity import (
    IDENTITY_TAGS,
    NAMING_TAGS,
    Identity,
    naming_tokens,
    person_tokens,
    read_identity,
    with_uids,
)
from fetalmlops.domain.deid.pixels.devices import DEVICE_TAGS, DeviceProfiles
from fetalmlops.domain.deid.pixels.encapsulated import encoded_plan, stored_plan
from fetalmlops.domain.deid.pixels.mask import PixelPlan, native_plan, pixel_layout
from fetalmlops.domain.deid.pixels.palette import Palette, read_palette
from fetalmlops.domain.deid.pixels.proof import Proof, prove_area, prove_text
from fetalmlops.domain.deid.reports.items import WANTED_DOCUMENT, Rules
from fetalmlops.domain.deid.reports.references import WANTED_REFERENCE, KeyedUids, clean_image_references
from fetalmlops.domain.deid.reports.tree import clean_document
from fetalmlops.domain.deid.rules.attributes import (
    ENHANCED_VOLUME,
    PALETTE,
    REFERENCES,
    REGION,
    REGIONS_TAG,
    SOP_CLASSES,
    Kind,
)
from fetalmlops.domain.deid.rules.checks import Context
from fetalmlops.domain.deid.rules.dates import DatePolicy, Dates, shift_days
from fetalmlops.domain.deid.rules.exports import Group
from fetalmlops.domain.deid.rules.profile import STREAM, CodePolicy, Profile
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.faults import Fault, guarded
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.imaging.source import FrameSource

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.pixels.release import Release
    from fetalmlops.domain.deid.pixels.text import TextCheck
    from fetalmlops.domain.deid.pixels.trust import TextVerdict
    from fetalmlops.domain.deid.rules.codes import Codes

__all__ = ["Deidentified", "Deidentifier"]


@dataclass(frozen=True)
class Deidentified:
    """What came of one instance: the evidence, who it is of (for the vault only), and what the clean file is."""

    report: Deidentification
    identity: Identity
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Deidentifier:
    """De-identifies instances by one profile. Stateless: the same input, key and profile give the same bytes anywhere.

    Parameters
    ----------
    key
        Where codes come from: the project's pseudonym key, or a book of random codes where the profile asks for them.
    profile
        What to do.
    devices
        Profiles of devices, which prove pixels where ultrasound regions do not.
    text
        How to look for text in what is kept; None where no verdict will ask for it.

    Examples
    --------
    >>> from fetalmlops.domain.contracts.identifiers import PseudonymKey
    >>> Deidentifier(PseudonymKey("demo", bytes(32))).deidentify_bytes(b"DOE^JANE")
    Traceback (most recent call last):
    ...
    fetalmlops.domain.errors.PermanentError: Expected a Part 10 file (PS3.10), got one without its prefix
    """

    key: Codes
    profile: Profile = field(default=STREAM)
    devices: DeviceProfiles = field(default_factory=DeviceProfiles)
    text: TextCheck | None = None

    def __post_init__(self) -> None:
        keyed = isinstance(self.key, PseudonymKey)
        if keyed is not (self.profile.codes is CodePolicy.KEYED):
            msg = (
                f"Expected {self.profile.codes} codes for the profile {self.profile.name}, got others; give it its own"
            )
            raise SettingsError(msg)

    def deidentify(
        self,
        source: IO[bytes],
        target: IO[bytes],
        *,
        source_clean: bool = False,
        verdict: TextVerdict | None = None,
        release: Release | None = None,
    ) -> Deidentified:
        """De-identify one instance.

        Parameters
        ----------
        source
            Seekable binary file in Part 10 format.
        target
            Binary file that takes the clean Part 10 file; what it holds after an error must be thrown away.
        source_clean
            Whether the source is declared to send no identifiers in its pixels, so that all of them are kept. An instance
            that says of itself that identifiers are burned in is not believed to be clean.
        verdict
            Whether the scanner is trusted to have no text in what is kept, or it is looked for; None where text detection is
            off. A source declared clean is believed.
        release
            What a person has released of the pixels of this instance: it goes before every other proof.

        Raises
        ------
        PermanentError
            If the instance cannot be de-identified, by reason: ``undecodable``, ``identity``, ``unsupported-sop-class``,
            ``unsupported-transfer-syntax``, ``unsupported-pixel-format``, ``no-pixel-data``, ``frames-inconsistent``,
            ``too-large``, ``pixels-unproven`` where nothing shows which pixels are free of identifiers, ``text-found``
            where these show text after all, or ``release-invalid`` where a release does not fit. The message holds no value of
            the instance.
        """
        with guarded("Expected a DICOM instance that can be de-identified, got one that cannot"):
            header = read_header(source, self._wanted)
            identity = read_identity(header.dataset, self.key)
            context = self._context(header.dataset, identity)
            uids = KeyedUids(self.key)
            kind = _kind(identity.instance.sop_class_uid)
            base = clean.base_attributes(identity, kind, self.profile, uids)
            content = (
                self._document(header, identity.instance.sop_class_uid, context, uids)
                if kind is Kind.DOCUMENT
                else self._image(header, kind, context, verdict, source_clean=source_clean, release=release)
            )
            base |= self._beyond(header.dataset, kind, context, uids)
            uid = content.plan.transfer_syntax_uid if content.plan else EXPLICIT_LITTLE
            target.write(encode_file_meta(identity.instance.sop_class_uid, self.key.uid(identity.instance.uid), uid))
            target.write(encode_attributes(base | content.kept | content.made))
            if content.plan:
                content.plan.write(target)
            content = replace(content, proof=content.proof.searched())
            return Deidentified(
                report=self._report(header, base, content),
                identity=with_uids(identity, uids.given),
                sop_class_uid=identity.instance.sop_class_uid,
                sop_instance_uid=self.key.uid(identity.instance.uid),
                transfer_syntax_uid=uid,
            )

    def deidentify_bytes(
        self,
        data: bytes,
        *,
        source_clean: bool = False,
        verdict: TextVerdict | None = None,
        release: Release | None = None,
    ) -> tuple[bytes, Deidentified]:
        """De-identify one instance in memory; see `deidentify`."""
        target = io.BytesIO()
        result = self.deidentify(io.BytesIO(data), target, source_clean=source_clean, verdict=verdict, release=release)
        return target.getvalue(), result

    @cached_property
    def _wanted(self) -> Wanted:
        tags = {rule.tag for rule in (*self.profile.image, *self.profile.document)}
        tags |= {
            *IDENTITY_TAGS,
            *PALETTE,
            clean.IMAGE_TYPE,
            *DEVICE_TAGS,
            *(NAMING_TAGS if self.profile.keeps_text else ()),
        }
        return {
            **dict.fromkeys(tags, None),
            **(WANTED_DOCUMENT if self.profile.keeps_content else {}),
            **(dict.fromkeys(REFERENCES, WANTED_REFERENCE) if self.profile.keeps_references else {}),
            **wanted_private(self.profile.private),
            REGIONS_TAG: dict.fromkeys((rule.tag for rule in REGION), None),
        }

    def _context(self, dataset: Item, identity: Identity) -> Context:
        days = 0
        if self.profile.dates is DatePolicy.SHIFT and isinstance(self.key, PseudonymKey):
            days = shift_days(self.key, identity.pseudonyms.patient)
        dates = Dates(self.profile.dates, days)
        if not self.profile.keeps_text:
            return Context(dates)
        return Context(dates, naming_tokens(dataset), person_tokens(dataset))

    def _document(self, header: Header, sop_class_uid: str, context: Context, uids: KeyedUids) -> _Content:
        keeps = self.profile.document
        kept = clean.kept_attributes(clean.keep(header.dataset, keeps, context), keeps)
        rules = Rules(context, uids, keeps_patient=Group.PATIENT in self.profile.keep)
        return _Content(kept=kept, made=clean_document(header.dataset, rules) | clean.unverified(sop_class_uid))

    def _beyond(self, dataset: Item, kind: Kind, context: Context, uids: KeyedUids) -> Attributes:
        """Return what a profile keeps beyond single attributes: private ones, and references of images."""
        private = clean_private(dataset, self.profile.private, context)
        if kind is Kind.DOCUMENT or not self.profile.keeps_references:
            return private
        return private | clean_image_references(dataset, uids)

    def _image(
        self,
        header: Header,
        kind: Kind,
        context: Context,
        verdict: TextVerdict | None,
        *,
        source_clean: bool,
        release: Release | None,
    ) -> _Content:
        if header.pixels is None:
            refuse("Expected an image with Pixel Data, got one without", Fault.NO_PIXEL_DATA)
        kept = clean.keep(header.dataset, self.profile.image, context)
        layout = pixel_layout(kept)
        source_clean = source_clean and release is None and not clean.says_burned_in(header.dataset)
        proof = prove_area(
            header.dataset,
            kind,
            layout,
            self.profile.regions,
            self.devices,
            source_clean=source_clean,
            release=release,
        )
        palette = Palette()
        if layout.photometric is Photometric.PALETTE_COLOR:
            palette = read_palette(header.dataset, layout.bits_stored)
        source = FrameSource(header.file, header.transfer_syntax_uid, layout, header.pixels)
        if not source_clean:
            proof = prove_text(proof, self.text, verdict, palette)
        watch = proof.search.watch if proof.search else None
        if source.is_native:
            plan = native_plan(source, proof.rectangles, palette.darkest, watch)
        elif source_clean:
            plan = stored_plan(source)
        else:
            plan = encoded_plan(source, proof.rectangles, palette.darkest, watch)
        pointer = clean.frame_pointer(kept, layout.frames)
        made = (
            pointer
            | clean.image_marks(header.dataset, self.profile, kind, cleaned=not source_clean)
            | plan.attributes
            | proof.marks
        )
        return _Content(
            kept=clean.kept_attributes(kept, self.profile.image) | palette.attributes | proof.attributes,
            made=made,
            plan=plan,
            proof=proof,
        )

    def _report(self, header: Header, base: Attributes, content: _Content) -> Deidentification:
        """Count the attributes of the input, at the levels that were read, by what became of them."""
        tags, written = header.dataset.tags, base | content.kept | content.made
        inner = sum(_tags_within(items) for items in header.dataset.items.values())
        inner_kept = sum(_written_within(written[tag][1]) for tag in header.dataset.items if tag in written)
        kept = sum(tag in content.kept and tag not in content.made for tag in tags)
        emptied = sum(tag in written and not written[tag][1] for tag in tags)
        replaced = sum(tag in written for tag in tags) - kept - emptied
        removed = sum(tag not in written for tag in tags) + max(inner - inner_kept, 0)
        return Deidentification(
            edition=self.profile.edition,
            profile=self.profile.name,
            rules_digest=self.profile.digest,
            actions={"kept": kept + inner_kept, "replaced": replaced, "emptied": emptied, "removed": removed},
            pixel_action=content.proof.action,
            rectangles=list(content.plan.rectangles) if content.plan else [],
            device_profile=content.proof.device_profile,
            release=content.proof.release,
            text_verdict=content.proof.text_verdict,
            text_passes=content.proof.text_passes,
            text_allowed=content.proof.text_allowed,
            text_overruled=content.proof.text_overruled,
        )


@dataclass(frozen=True)
class _Content:
    """What an instance holds beyond the base: attributes that were kept, attributes that were made, and pixels."""

    kept: Attributes
    made: Attributes
    plan: PixelPlan | None = None
    proof: Proof = field(default_factory=Proof)


def _tags_within(items: list[Item]) -> int:
    """Count the attributes of items at every depth that was read."""
    return sum(len(item.tags) + sum(map(_tags_within, item.items.values())) for item in items)


def _written_within(value: bytes | list[Attributes]) -> int:
    """Count the attributes that were written in a sequence, at every depth."""
    if isinstance(value, bytes):
        return 0
    return sum(len(item) + sum(_written_within(inner) for _, inner in item.values()) for item in value)


def _kind(sop_class_uid: str) -> Kind:
    kind = SOP_CLASSES.get(sop_class_uid)
    if sop_class_uid == ENHANCED_VOLUME:
        refuse(
            "Expected an image whose header can be rebuilt, got an Enhanced US Volume: its functional groups are not rebuilt by"
            " these rules; send the 2D images of the study",
            Refusal.UNSUPPORTED_SOP_CLASS,
        )
    if kind is None:
        refuse(
            "Expected an ultrasound image, a secondary capture or a structured report, got another SOP class",
            Refusal.UNSUPPORTED_SOP_CLASS,
        )
    return kind
