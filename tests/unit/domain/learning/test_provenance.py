from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import DataManifest, Split, encode_data_manifest, manifest_digest
from fetalmlops.domain.learning.provenance import IMAGES_FILE, TRAINING, ImageRecord, record_of, recorded, seen_by
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.evidence import DataEntry, Evidence
from fetalmlops.domain.models.manifest import MANIFEST_NAME
from fetalmlops.platform.inference.bundles import DEMONSTRATION, packaged_bundle
from support.datasets import entry

SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
IMAGES = [entry(number, split=SPLITS[number % 3]) for number in range(9)]
DATA = DataManifest(name="site", layout="none", licence="none", images=IMAGES)
DIGEST = manifest_digest(encode_data_manifest(DATA))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A bundle that says nothing of what it was made from."""
    packaged = load_bundle(packaged_bundle(DEMONSTRATION))
    files = {name: data for name, data in packaged.files.items() if name not in {MANIFEST_NAME, IMAGES_FILE}}
    return load_bundle(seal_bundle(msgspec.structs.replace(packaged.manifest, evidence=Evidence()), files))


def with_record(bundle: Bundle, record: ImageRecord) -> Bundle:
    files = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    evidence = msgspec.structs.replace(bundle.manifest.evidence, images_file=IMAGES_FILE)
    manifest = msgspec.structs.replace(bundle.manifest, evidence=evidence)
    return load_bundle(seal_bundle(manifest, files | {IMAGES_FILE: record.to_bytes()}))


def with_manifest(bundle: Bundle, **changes: object) -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, **changes))


def test_a_bundle_that_records_no_image_says_that_it_cannot_be_known(bundle: Bundle) -> None:
    seen = seen_by(bundle, DATA, DIGEST)
    assert (seen.count, seen.roles, seen.complete) == (0, (), False)
    assert "cannot be known" in str(seen)


def test_of_a_training_all_but_the_test_images_had_a_part(bundle: Bundle) -> None:
    provenance = msgspec.structs.replace(bundle.manifest.provenance, data_digest=DIGEST)
    trained = with_manifest(bundle, provenance=provenance)
    assert seen_by(trained, DATA, DIGEST).images.tolist() == [image.split is not Split.TEST for image in IMAGES]
    assert seen_by(trained, DATA, DIGEST, DATA.of(Split.TEST)).count == 0
    assert "3 of 3 images had a part in making the bundle (training)" in str(
        seen_by(trained, DATA, DIGEST, DATA.of(Split.TRAIN))
    )


def test_what_a_fine_tuned_bundle_was_first_trained_on_had_a_part_but_for_the_test_images(bundle: Bundle) -> None:
    named = DataEntry(name="first", role=TRAINING, digest=DIGEST)
    evidence = msgspec.structs.replace(bundle.manifest.evidence, data=[named])
    tuned = with_manifest(bundle, evidence=evidence)
    assert seen_by(tuned, DATA, DIGEST, DATA.of(Split.TEST)).count == 0
    assert seen_by(tuned, DATA, DIGEST).count == 6


def test_images_that_a_training_only_measured_by_had_no_part(bundle: Bundle) -> None:
    named = [DataEntry(name="site", role=role, digest=DIGEST) for role in ("training", "validation", "test")]
    made = with_manifest(bundle, evidence=msgspec.structs.replace(bundle.manifest.evidence, data=named))
    assert seen_by(made, DATA, DIGEST).images.tolist() == [image.split is not Split.TEST for image in IMAGES]


def test_what_a_bundle_was_adapted_to_had_a_part_as_a_whole(bundle: Bundle) -> None:
    named = DataEntry(name="site", role="adaptation, head", digest=DIGEST, images=9, patients=9)
    evidence = msgspec.structs.replace(bundle.manifest.evidence, data=[named])
    seen = seen_by(with_manifest(bundle, evidence=evidence), DATA, DIGEST)
    assert (seen.count, seen.roles) == (9, ("adaptation, head",))


def test_the_same_pixels_are_found_under_another_name_and_split(bundle: Bundle) -> None:
    made = with_record(bundle, record_of(IMAGES[:4]))
    again = [msgspec.structs.replace(image, path=f"copy/{image.path}", split=Split.TEST) for image in IMAGES]
    other = msgspec.structs.replace(DATA, name="other", images=again)
    seen = seen_by(made, other, "1" * 64)
    assert seen.images.tolist() == [True] * 4 + [False] * 5
    assert seen.complete
    fresh = seen_by(made, other, "1" * 64, again[4:])
    assert fresh.count == 0
    assert str(fresh).startswith("none of 5")


def test_records_join_and_are_complete_only_together(bundle: Bundle) -> None:
    first, second = record_of(IMAGES[:4]), record_of(IMAGES[3:6])
    assert len(first.joined(second).images) == 6
    assert first.joined(second).complete
    assert not recorded(bundle).joined(first).complete
    assert recorded(with_record(bundle, first)) == first
    assert len({len(digits) for digits in first.images}) == 1


def test_a_record_that_cannot_be_read_is_refused(bundle: Bundle) -> None:
    made = with_record(bundle, record_of(IMAGES))
    broken = replace(made, files={**made.files, IMAGES_FILE: b"[1"})
    with pytest.raises(ContractError, match="record of images"):
        seen_by(broken, DATA, DIGEST)


def test_a_record_that_a_manifest_names_must_be_there(bundle: Bundle) -> None:
    evidence = msgspec.structs.replace(bundle.manifest.evidence, images_file=IMAGES_FILE)
    files = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    with pytest.raises(ContractError, match=IMAGES_FILE):
        load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, evidence=evidence), files))
