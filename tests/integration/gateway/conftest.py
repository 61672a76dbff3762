from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.simulation import InstanceSpec, Kind, make_instance
from fetalmlops.domain.simulation.scanners import SCANNERS
from support.gateway import GatewayProcess, InferenceProcess
from support.instances import SMALL
from support.phantoms import image_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def inference() -> Iterator[InferenceProcess]:
    service = InferenceProcess()
    yield service
    service.kill()


@pytest.fixture(scope="session")
def gateway(inference: InferenceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that asks for a key, with small bounds."""
    bounds = {"GATEWAY__MAX_BODY_BYTES": 8 << 20, "GATEWAY__CHILD_MEMORY_BYTES": 512 << 20}
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), inference, **bounds) as started:
        yield started


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def dicom() -> bytes:
    """An ultrasound image with regions."""
    return make_instance(SMALL).data


@pytest.fixture(scope="session")
def clip() -> bytes:
    """Three frames of a femur."""
    return make_instance(
        InstanceSpec(kind=Kind.ULTRASOUND_MULTIFRAME, frames=3, plane=Plane.FEMUR, scanner=SMALL.scanner)
    ).data


@pytest.fixture(scope="session")
def screen() -> np.ndarray:
    return image_of(SCANNERS[0], plane=Plane.ABDOMEN)


@pytest.fixture(scope="session")
def png(screen: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", screen)[1])


@pytest.fixture(scope="session")
def jpeg(screen: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", screen)[1])
