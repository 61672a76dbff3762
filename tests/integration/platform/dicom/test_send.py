from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import Dataset, dcmwrite, uid
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import AllTransferSyntaxes

from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, Kind, Layout, Photometric, make_instance
from fetalmlops.platform.dicom.storescu import Peer, find_files, read_storable, send_files
from fetalmlops.platform.settings import TlsSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Provide = Callable[..., "object"]

SMALL = SCANNERS[2]


def peer(port: int, **more: object) -> Peer:
    return Peer(host="127.0.0.1", port=port, called="KEEPER", timeout_s=10, **more)


def write(folder: Path, *specs: InstanceSpec) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number, spec in enumerate(specs):
        paths.append(folder / f"{number:03}.dcm")
        paths[-1].write_bytes(make_instance(spec).data)
    return paths


def dataset_bytes(path: Path) -> bytes:
    """What follows the file meta information."""
    data = path.read_bytes()
    meta = read_file_meta_info(path)
    return data[132 + 12 + meta.FileMetaInformationGroupLength :]


def reports(folder: Path, count: int) -> list[Path]:
    return write(folder, *(InstanceSpec(kind=Kind.BASIC_TEXT, number=number) for number in range(1, count + 1)))


def test_every_class_and_syntax_arrives_exactly_as_stored(provide: Provide, tmp_path: Path) -> None:
    rgb = Layout(photometric=Photometric.RGB)
    syntaxes = [
        (uid.ImplicitVRLittleEndian, Layout()),
        (uid.ExplicitVRBigEndian, Layout()),
        (uid.DeflatedExplicitVRLittleEndian, rgb),
        (uid.RLELossless, rgb),
        (uid.JPEGBaseline8Bit, Layout()),
        (uid.JPEGLosslessSV1, Layout()),
        (uid.JPEG2000Lossless, Layout()),
    ]
    specs = [
        *(
            InstanceSpec(scanner=SMALL, transfer_syntax=s, layout=layout, number=n)
            for n, (s, layout) in enumerate(syntaxes)
        ),
        *(
            InstanceSpec(scanner=SMALL, kind=kind, number=20 + n, layout=rgb if "colour" in kind else Layout())
            for n, kind in enumerate(Kind)
        ),
    ]
    paths = write(tmp_path / "study", *specs)
    provider = provide()
    outcomes = list(send_files(find_files([tmp_path]), peer(provider.port)))
    assert [outcome.path for outcome in outcomes] == paths
    assert all(outcome.stored and outcome.status == 0 and outcome.size for outcome in outcomes)
    for path, spec in zip(paths, specs, strict=True):
        assert provider.received[spec.sop_instance_uid] == (spec.transfer_syntax, dataset_bytes(path))


def test_associations_share_the_work(provide: Provide, tmp_path: Path) -> None:
    paths = reports(tmp_path / "study", 40)
    provider = provide()
    outcomes = list(send_files(paths, peer(provider.port), associations=4))
    assert len(outcomes) == len(provider.received) == 40
    assert 2 <= len(provider.contexts) <= 4


def test_more_than_128_contexts_are_split_over_associations(provide: Provide, tmp_path: Path) -> None:
    classes = (uid.UltrasoundImageStorage, uid.SecondaryCaptureImageStorage, uid.CTImageStorage, uid.MRImageStorage)
    contexts = [(sop_class, syntax) for sop_class in classes for syntax in AllTransferSyntaxes][:150]
    paths = [_small_file(tmp_path / f"{n:03}.dcm", n, *context) for n, context in enumerate(contexts)]
    provider = provide()
    outcomes = list(send_files(paths, peer(provider.port)))
    assert all(outcome.stored for outcome in outcomes)
    assert provider.contexts == [128, 22]


def test_a_refusing_peer_s_status_is_told(provide: Provide, tmp_path: Path) -> None:
    provider = provide(status=0xA700)
    (outcome,) = send_files(reports(tmp_path / "study", 1), peer(provider.port))
    assert (outcome.status, outcome.stored, outcome.summary) == (0xA700, False, "0xA700 out of resources")


def test_a_warning_counts_as_stored(provide: Provide, tmp_path: Path) -> None:
    provider = provide(status=0xB000)
    (outcome,) = send_files(reports(tmp_path / "study", 1), peer(provider.port))
    assert outcome.stored
    assert outcome.summary == "0xB000 warning"


def test_what_the_peer_does_not_accept_is_told_and_the_rest_is_sent(provide: Provide, tmp_path: Path) -> None:
    paths = write(tmp_path / "study", InstanceSpec(kind=Kind.BASIC_TEXT), InstanceSpec(scanner=SMALL, number=2))
    provider = provide(accept=(uid.BasicTextSRStorage,))
    stored, refused = send_files(paths, peer(provider.port))
    assert stored.stored
    assert refused.status is None
    assert "not accepted" in refused.error


def test_a_peer_that_accepts_nothing_is_told_apart_from_one_that_is_away(provide: Provide, tmp_path: Path) -> None:
    paths = reports(tmp_path / "study", 2)
    provider = provide(accept=(uid.CTImageStorage,))
    assert {outcome.error for outcome in send_files(paths, peer(provider.port))} == {
        "no association: none of the SOP classes and transfer syntaxes is accepted"
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    outcomes = list(send_files(paths, peer(closed), associations=2))
    assert [outcome.error for outcome in outcomes] == ["no association: no connection or no answer"] * 2


def test_a_lost_association_costs_one_instance_and_is_opened_anew(provide: Provide, tmp_path: Path) -> None:
    provider = provide(abort_at=3)
    outcomes = list(send_files(reports(tmp_path / "study", 8), peer(provider.port)))
    assert [outcome.stored for outcome in outcomes] == [True] * 3 + [False] + [True] * 4
    assert len(provider.contexts) == 2


def test_one_association_too_many_leaves_its_work_to_the_others(provide: Provide, tmp_path: Path) -> None:
    provider = provide(maximum=1)
    outcomes = list(send_files(reports(tmp_path / "study", 20), peer(provider.port), associations=3))
    assert all(outcome.stored for outcome in outcomes)
    assert len(outcomes) == 20


def test_a_file_that_is_not_dicom_is_told_without_its_content(provide: Provide, tmp_path: Path) -> None:
    (good,) = reports(tmp_path / "study", 1)
    bad = tmp_path / "note.txt"
    bad.write_text("CANARY SECRET")
    missing = tmp_path / "missing.dcm"
    outcomes = {outcome.path: outcome for outcome in send_files([bad, missing, good], peer(provide().port))}
    assert outcomes[good].stored
    assert "Part 10" in outcomes[bad].error
    assert outcomes[missing].error == "cannot be read"
    assert "CANARY" not in outcomes[bad].error


def test_closing_the_generator_stops_the_sending(provide: Provide, tmp_path: Path) -> None:
    provider = provide()
    outcomes = send_files(reports(tmp_path / "study", 60), peer(provider.port))
    next(outcomes)
    outcomes.close()
    assert len(provider.received) < 60


def test_tls_with_client_certificates(provide: Provide, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    provider = provide(ssl_context=context)
    tls = TlsSettings(enabled=True, ca_file=certificate, certificate_file=certificate, key_file=key)
    paths = reports(tmp_path / "study", 2)
    assert all(outcome.stored for outcome in send_files(paths, peer(provider.port, tls=tls)))
    stranger = TlsSettings(enabled=True, certificate_file=certificate, key_file=key)
    assert not any(outcome.stored for outcome in send_files(paths, peer(provider.port, tls=stranger)))


def test_what_is_read_of_a_file_is_its_meta_information(tmp_path: Path) -> None:
    spec = InstanceSpec(scanner=SMALL, transfer_syntax=uid.RLELossless)
    (path,) = write(tmp_path / "study", spec)
    storable = read_storable(path)
    assert storable.context == (spec.sop_class_uid, uid.RLELossless)
    assert storable.sop_instance_uid == spec.sop_instance_uid


def _certificate(folder: Path) -> tuple[Path, Path]:
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _small_file(path: Path, number: int, sop_class: str, syntax: str) -> Path:
    """Write a file that has a meta information, and almost nothing else."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"2.25.{number + 1}"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with path.open("wb") as file:
        dcmwrite(file, dataset, enforce_file_format=True)
    return path


@pytest.mark.parametrize("associations", [1, 3])
def test_nothing_to_send_is_nothing_sent(associations: int) -> None:
    assert list(send_files([], peer(1), associations=associations)) == []
