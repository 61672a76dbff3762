"""What is changed of a bundle to fit a site, before its numbers are fitted: nothing, or its head."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.heads import fit_head
from fetalmlops.domain.models.manifest import Variant
from fetalmlops.platform.inference.graphs import change_head

if TYPE_CHECKING:
    from typing import Any

    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.learning.fitting import Observed

__all__ = ["Change", "with_head"]

_NETWORK = "model.onnx"


@dataclass(frozen=True, eq=False, kw_only=True)
class Change:
    """A changed bundle, and what it says of images by changes that were fitted on other patients.

    Parameters
    ----------
    bundle
        The bundle whose numbers are to be fitted.
    site, kept
        What the change says of the site's images, and of those of the old site if there are any.
    before, kept_before
        What the old bundle says of the same images.
    fields, files
        Fields of the manifest, and files, that are others than the bundle's.
    """

    bundle: Bundle
    site: Observed
    kept: Observed | None
    before: Predictions
    kept_before: Predictions | None
    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def with_head(old: Bundle, site: Observed, kept: Observed | None) -> Change:
    """Fit a change of the head to the images of a site, and of the old one if there are any.

    Raises
    ------
    ContractError
        If the bundle gives no embedding (reason ``no-embedding``).
    """
    manifest = old.manifest
    if not manifest.embedding_length:
        msg = "Expected a bundle with an embedding for the level head, got one without; choose the level calibrate"
        raise ContractError(msg, reason="no-embedding")
    parts = [site] if kept is None else [site, kept]
    known = [each.predictions for each in parts]
    change = fit_head(
        np.concatenate([each.logits for each in known]),
        np.concatenate([each.embedding for each in parts]),
        np.concatenate([each.labels for each in known]),
        # A pseudonym of one site says nothing of the same one at another.
        np.concatenate([[f"{index} {name}" for name in each.patients] for index, each in enumerate(known)]),
        manifest.calibration.temperature,
    )
    network, maps = change_head(old.network(manifest.default_precision), change.weight, change.bias)
    # A network with its own file, such as that in int8, would still have the old head.
    served = manifest.variants[manifest.default_precision].file
    tolerances = {name: variant.tolerance for name, variant in manifest.variants.items() if variant.file == served}
    count = len(site.predictions)
    return Change(
        bundle=old,
        site=_with_logits(site, change.logits[:count]),
        kept=None if kept is None else _with_logits(kept, change.logits[count:]),
        before=site.predictions,
        kept_before=None if kept is None else kept.predictions,
        fields={
            "variants": {precision: Variant(file=_NETWORK, tolerance=each) for precision, each in tolerances.items()},
            "outputs": manifest.outputs if maps else tuple(each for each in manifest.outputs if each != "maps"),
            "metrics": {},
            "weights": _NETWORK,
        },
        files={_NETWORK: network},
    )


def _with_logits(observed: Observed, logits: np.ndarray[Any, np.dtype[np.float32]]) -> Observed:
    return replace(observed, predictions=replace(observed.predictions, logits=logits))
