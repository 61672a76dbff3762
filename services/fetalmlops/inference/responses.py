"""Writing answers: domain values to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.models.classify import explain
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.models.classify import Classified
    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.inference.hosting import ServedModel

__all__ = ["classify_response", "metadata_response"]


def classify_response(
    model: ServedModel,
    options: pb.ClassifyOptions,
    result: Classified,
    output: EngineOutput,
    frame_numbers: Sequence[int],
    shape: tuple[int, int],
) -> pb.ClassifyResponse:
    """Return the answer to a call; its timing is left to the caller.

    Parameters
    ----------
    model
        The model.
    options
        What the caller wants.
    result, output
        What the model says, and the outputs it says it by.
    frame_numbers
        DICOM frame numbers, in order.
    shape
        Rows and columns of the frames.
    """
    manifest = model.bundle.manifest
    response = pb.ClassifyResponse(
        model=_identity(model),
        planes=_labelled(manifest.planes, result.probabilities),
        brain_planes=_labelled(manifest.brain_planes, result.brain_probabilities),
        frames=_frames(manifest.planes, result, frame_numbers),
        best_frame_number=frame_numbers[result.best],
        ood_score=result.ood_score or 0.0,
        decision=pb.Decision(outcome=result.verdict.decision, reasons=result.verdict.reasons),
        not_available=manifest.lacking,
    )
    if options.want_embedding:
        response.embedding.extend(output.embedding[result.best].tolist())
    grid = explain(model.bundle, output, result, *shape) if options.want_explanation else None
    if grid is not None:
        response.explanation.CopyFrom(
            pb.ActivationMap(
                plane=result.plane,
                frame_number=response.best_frame_number,
                rows=grid.shape[0],
                columns=grid.shape[1],
                values=grid.ravel().tolist(),
            )
        )
    return response


def metadata_response(model: ServedModel) -> pb.GetModelMetadataResponse:
    """Return what is known about the model."""
    manifest = model.bundle.manifest
    return pb.GetModelMetadataResponse(
        model=_identity(model),
        input_rows=manifest.input.rows,
        input_columns=manifest.input.columns,
        plane_labels=manifest.planes,
        brain_plane_labels=manifest.brain_planes,
        embedding_length=manifest.embedding_length,
        manifest=model.bundle.manifest_bytes,
    )


def _identity(model: ServedModel) -> pb.ModelIdentity:
    manifest = model.bundle.manifest
    return pb.ModelIdentity(
        name=manifest.name,
        version=manifest.version,
        bundle_digest=model.bundle.digest,
        precision=model.engine.precision,
        engine=model.engine.name,
        release_status=manifest.release_status,
        decision_digest=model.decision_digest,
    )


def _labelled(labels: Sequence[str], probabilities: NDArray[np.float64]) -> list[pb.LabelProbability]:
    pairs = zip(labels, probabilities.tolist(), strict=True)
    return [pb.LabelProbability(label=label, probability=probability) for label, probability in pairs]


def _frames(planes: Sequence[str], result: Classified, numbers: Sequence[int]) -> list[pb.FrameResult]:
    likeliest = result.frame_probabilities.argmax(axis=1).tolist()
    return [
        pb.FrameResult(
            frame_number=number,
            plane=planes[likeliest[index]],
            probability=float(result.frame_probabilities[index, likeliest[index]]),
            weight=float(result.frame_weights[index]),
            ood_score=0.0 if result.frame_ood is None else float(result.frame_ood[index]),
        )
        for index, number in enumerate(numbers)
    ]
