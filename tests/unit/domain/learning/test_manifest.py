"""Data manifests read back what was written, and refuse what is none."""

from __future__ import annotations

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import (
    DataManifest,
    ImageEntry,
    Split,
    decode_data_manifest,
    encode_data_manifest,
    manifest_digest,
)

IMAGE = ImageEntry(
    path="Images/a.png",
    sha256="a" * 64,
    pixels="b" * 64,
    hash="0" * 16,
    patient="1",
    split=Split.TRAIN,
    plane=Plane.BRAIN,
    rows=300,
    columns=400,
)
MANIFEST = DataManifest(name="sample", layout="folders", licence="CC BY 4.0", images=[IMAGE])


def test_a_manifest_reads_back_and_names_its_bytes() -> None:
    data = encode_data_manifest(MANIFEST)
    assert decode_data_manifest(data) == MANIFEST
    assert encode_data_manifest(decode_data_manifest(data)) == data
    other = msgspec.structs.replace(MANIFEST, name="other")
    assert manifest_digest(data) != manifest_digest(encode_data_manifest(other))
    assert MANIFEST.of(Split.TRAIN) == [IMAGE]
    assert MANIFEST.of(Split.TEST) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.png", "Images/../../a.png", "a\\b.png", ""])
def test_a_path_outside_of_the_folder_is_refused(path: str) -> None:
    broken = msgspec.structs.replace(MANIFEST, images=[msgspec.structs.replace(IMAGE, path=path)])
    with pytest.raises(ContractError, match="Expected a data manifest"):
        decode_data_manifest(encode_data_manifest(broken))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[]"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="Expected a data manifest"):
        decode_data_manifest(data)


def test_another_format_is_refused() -> None:
    with pytest.raises(ContractError, match="of format 1, got 2"):
        decode_data_manifest(encode_data_manifest(msgspec.structs.replace(MANIFEST, format=2)))
