from __future__ import annotations

import hashlib

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError, DigestMismatchError
from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import (
    MANIFEST_NAME,
    Manifest,
    Precision,
    decode_manifest,
    encode_manifest,
)


def test_a_sealed_bundle_loads_under_the_digest_of_its_manifest(tiny_files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(tiny_files[MANIFEST_NAME]).hexdigest()
    bundle = load_bundle(tiny_files, digest)
    assert bundle.digest == digest
    assert bundle.network(Precision.F32) == b"a network"
    assert bundle.manifest_bytes == tiny_files[MANIFEST_NAME]


def test_sealing_the_same_files_gives_the_same_bytes(manifest: Manifest, tiny_files: dict[str, bytes]) -> None:
    contents = {name: data for name, data in tiny_files.items() if name != MANIFEST_NAME}
    assert seal_bundle(manifest, contents) == tiny_files


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "ood.safetensors", "card.md"])
def test_one_changed_byte_of_any_file_is_refused(tiny_files: dict[str, bytes], name: str) -> None:
    data = bytearray(tiny_files[name])
    data[-1] ^= 1
    with pytest.raises(DigestMismatchError, match=name):
        load_bundle({**tiny_files, name: bytes(data)})


def test_a_changed_manifest_is_refused_under_the_old_digest(tiny_files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(tiny_files[MANIFEST_NAME]).hexdigest()
    changed = tiny_files[MANIFEST_NAME].replace(b'"accept": 0.8', b'"accept": 0.1')
    assert changed != tiny_files[MANIFEST_NAME]
    with pytest.raises(DigestMismatchError):
        load_bundle({**tiny_files, MANIFEST_NAME: changed}, digest)


@pytest.mark.parametrize("name", [MANIFEST_NAME, "model.onnx", "reference.safetensors"])
def test_a_missing_file_is_named(tiny_files: dict[str, bytes], name: str) -> None:
    with pytest.raises(ContractError, match=name):
        load_bundle({key: data for key, data in tiny_files.items() if key != name})


def test_other_labels_are_refused(manifest: Manifest, tiny_files: dict[str, bytes]) -> None:
    renamed = msgspec.structs.replace(
        manifest, planes=[*PLANES][::-1], files=decode_manifest(tiny_files[MANIFEST_NAME]).files
    )
    with pytest.raises(ContractError) as caught:
        load_bundle({**tiny_files, MANIFEST_NAME: encode_manifest(renamed)})
    assert caught.value.reason == "labels"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format": 1', b'"format": 2'),
        (b'"version": "1.2.3"', b'"version": "newest"'),
        (b'"fit": "pad"', b'"fit": "fold"'),
        (b'"default_precision": "f32"', b'"default_precision": "bf16"'),
        (b'"card": "card.md"', b'"card": "other.md"'),
        (b'"card": "card.md"', b'"card": "../card.md"'),
        (b'"temperature": 1.0', b'"temperature": 0'),
        (b"{", b"["),
    ],
)
def test_a_broken_manifest_is_refused(tiny_files: dict[str, bytes], old: bytes, new: bytes) -> None:
    assert old in tiny_files[MANIFEST_NAME]
    with pytest.raises(ContractError):
        decode_manifest(tiny_files[MANIFEST_NAME].replace(old, new, 1))


def test_a_manifest_of_a_newer_release_with_more_fields_is_read(tiny_files: dict[str, bytes]) -> None:
    more = tiny_files[MANIFEST_NAME].replace(b"{", b'{"a_field_of_the_future": 1,', 1)
    assert decode_manifest(more) == decode_manifest(tiny_files[MANIFEST_NAME])


def test_a_precision_that_the_bundle_lacks_is_refused(tiny_files: dict[str, bytes]) -> None:
    with pytest.raises(ContractError, match="f32"):
        load_bundle(tiny_files).network(Precision.INT8)


@pytest.mark.parametrize("name", ["ood.safetensors", "reference.safetensors"])
def test_tensors_that_are_none_are_refused(manifest: Manifest, tiny_files: dict[str, bytes], name: str) -> None:
    contents = {key: data for key, data in tiny_files.items() if key != MANIFEST_NAME}
    with pytest.raises(ContractError):
        load_bundle(seal_bundle(manifest, {**contents, name: b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "}))
