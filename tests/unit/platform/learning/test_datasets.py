"""Data sets lie in the state folder, their images elsewhere; what is read is what was added."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pydicom
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.learning.layouts.listing import Listed
from fetalmlops.domain.learning.manifest import DataManifest, Split
from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, Kind, Layout, Photometric, make_instance, stored_frames
from fetalmlops.platform.learning.datasets import (
    add_dataset,
    as_grey,
    list_datasets,
    measure_images,
    open_dataset,
    read_screen,
)
from fetalmlops.platform.learning.sources import LAYOUTS, LayoutOptions
from fetalmlops.platform.settings import Settings, load_settings
from support.datasets import picture, write_fetal_planes, write_picture


def _added(tmp_path: Path) -> tuple[Settings, Path]:
    settings = load_settings(tmp_path / "home")
    root = write_fetal_planes(tmp_path / "images")
    listing = LAYOUTS["fetal-planes"].read(root, LayoutOptions())
    entries, unreadable = measure_images(root, listing.images)
    assert not unreadable
    add_dataset(settings, DataManifest(name="small", layout="fetal-planes", licence="none", images=entries), root)
    return settings, root


def test_a_data_set_opens_by_name_and_by_folder(tmp_path: Path) -> None:
    settings, root = _added(tmp_path)

    dataset = open_dataset(settings, "small")

    assert list_datasets(settings) == ["small"]
    assert dataset.root == root
    assert len(dataset.manifest.of(Split.TRAIN)) == 4
    for number, image in enumerate(dataset.manifest.images):
        np.testing.assert_array_equal(dataset.read(image), picture(number))
        np.testing.assert_array_equal(dataset.read_checked(image), picture(number))
    assert open_dataset(settings, tmp_path / "home/datasets/small") == dataset


def test_the_digest_does_not_depend_on_where_images_lie(tmp_path: Path) -> None:
    settings, root = _added(tmp_path)
    before = open_dataset(settings, "small")
    moved = root.rename(tmp_path / "elsewhere")
    add_dataset(settings, before.manifest, moved)
    after = open_dataset(settings, "small")
    assert after.digest == before.digest
    assert after.root == moved


def test_a_folder_that_holds_its_images_needs_no_location(tmp_path: Path) -> None:
    settings, root = _added(tmp_path)
    (tmp_path / "home/datasets/small/manifest.json").rename(root / "manifest.json")
    dataset = open_dataset(settings, root)
    assert dataset.read(dataset.manifest.images[0]).shape == (60, 80)


def test_an_image_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    settings, root = _added(tmp_path)
    dataset = open_dataset(settings, "small")
    first, second, *_ = dataset.manifest.images
    write_picture(root / first.path, picture(99))
    (root / second.path).unlink()

    with pytest.raises(ContractError, match="got a changed one"):
        dataset.read_checked(first)
    with pytest.raises(ContractError, match="Expected a readable image, got FileNotFoundError"):
        dataset.read(second)


def test_a_data_set_that_is_not_there_is_a_setting_to_mend(tmp_path: Path) -> None:
    settings, _ = _added(tmp_path)
    with pytest.raises(SettingsError, match="those added: small"):
        open_dataset(settings, "another")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"root": 1}'])
def test_a_broken_location_is_refused(tmp_path: Path, text: str) -> None:
    settings, _ = _added(tmp_path)
    (tmp_path / "home/datasets/small/location.json").write_text(text)
    with pytest.raises(ContractError, match=r"location\.json"):
        open_dataset(settings, "small")


def test_unreadable_images_are_named_in_order(tmp_path: Path) -> None:
    root = write_fetal_planes(tmp_path)
    (root / "Images/broken.png").write_bytes(b"\x89PNG\r\n")
    (root / "Images/empty.png").write_bytes(b"")
    names = ["broken", "Patient00002_Plane5_1_of_1", "empty", "absent"]
    seen: list[int] = []
    entries, unreadable = measure_images(
        root, [Listed(path=f"Images/{name}.png", patient="1") for name in names], progress=lambda: seen.append(1)
    )
    assert [entry.path for entry in entries] == ["Images/Patient00002_Plane5_1_of_1.png"]
    assert unreadable == ["Images/broken.png", "Images/empty.png", "Images/absent.png"]
    assert len(seen) == 4


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_pictures_are_grey_or_rgb_whatever_their_channels() -> None:
    grey = picture(1)
    np.testing.assert_array_equal(read_screen(_png(cv2.merge([grey] * 3)), "a.png"), grey)
    np.testing.assert_array_equal(read_screen(_png(cv2.merge([grey] * 4)), "a.png"), grey)
    np.testing.assert_array_equal(read_screen(_png(grey.astype(np.uint16) * 257), "a.png"), grey)
    blue, green, red = grey, picture(2), picture(3)
    colour = read_screen(_png(cv2.merge([blue, green, red])), "a.png")
    np.testing.assert_array_equal(colour, np.dstack([red, green, blue]))
    assert as_grey(colour).shape == grey.shape


@pytest.mark.parametrize("photometric", [Photometric.MONOCHROME2, Photometric.RGB])
def test_frames_of_dicom_files_are_screens(photometric: Photometric) -> None:
    spec = InstanceSpec(
        plane=Plane.FEMUR,
        kind=Kind.ULTRASOUND_MULTIFRAME,
        frames=3,
        scanner=SCANNERS[1],
        layout=Layout(photometric=photometric),
    )
    data = make_instance(spec).data
    stored = list(stored_frames(spec))

    for index in range(3):
        screen = read_screen(data, "a.dcm", index)
        np.testing.assert_array_equal(screen, stored[index])
    with pytest.raises(ContractError, match="with this frame"):
        read_screen(data, "a.dcm", 3)
    with pytest.raises(ContractError, match="cannot be decoded"):
        read_screen(data[:2000], "a")


def test_a_manifest_name_that_is_no_name_is_refused(tmp_path: Path) -> None:
    settings, root = _added(tmp_path)
    manifest = msgspec.structs.replace(open_dataset(settings, "small").manifest, name="../up")
    with pytest.raises(ContractError, match="Expected a data manifest"):
        add_dataset(settings, manifest, root)
    assert not (tmp_path / "home/up").exists()


def _clean_file(path: Path, spec: InstanceSpec, *, removed: str = "YES") -> str:
    """Write a simulated instance as a clean file says it is; return its SOP Instance UID."""
    dataset = pydicom.dcmread(io.BytesIO(make_instance(spec).data))
    dataset.PatientIdentityRemoved = removed
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return str(dataset.SOPInstanceUID)


def test_clean_files_are_listed_by_their_headers_whatever_else_lies_there(tmp_path: Path) -> None:
    cine = InstanceSpec(plane=Plane.BRAIN, kind=Kind.ULTRASOUND_MULTIFRAME, frames=3, number=2)
    instance = _clean_file(tmp_path / "set/a/cine.dcm", cine)
    _clean_file(tmp_path / "set/still", InstanceSpec(plane=Plane.FEMUR))
    _clean_file(tmp_path / "set/report.dcm", InstanceSpec(kind=Kind.BASIC_TEXT, number=3))
    (tmp_path / "set/notes.txt").write_text("no DICOM")
    (tmp_path / "labels.csv").write_text(f"instance,plane,frame\n{instance},brain,3\n")

    everything = LAYOUTS["dicom"].read(tmp_path / "set", LayoutOptions(site="north"))
    labelled = LAYOUTS["dicom"].read(tmp_path / "set", LayoutOptions(labels=tmp_path / "labels.csv"))

    assert [(image.path, image.frame) for image in everything.images] == [
        ("a/cine.dcm", 0),
        ("a/cine.dcm", 1),
        ("a/cine.dcm", 2),
        ("still", 0),
    ]
    assert everything.images[0].site == "north"
    assert everything.images[0].scanner.endswith("Phantom A1")
    (entry,), unreadable = measure_images(tmp_path / "set", labelled.images)
    assert not unreadable
    assert (entry.path, entry.frame, entry.plane) == ("a/cine.dcm", 2, Plane.BRAIN)


def test_a_file_with_an_identity_is_refused(tmp_path: Path) -> None:
    _clean_file(tmp_path / "a.dcm", InstanceSpec(), removed="NO")
    with pytest.raises(ContractError, match="de-identify them"):
        LAYOUTS["dicom"].read(tmp_path, LayoutOptions())
