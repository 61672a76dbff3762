"""SonoNet-16 (Baumgartner et al., IEEE TMI 36(11), 2017, arXiv:1612.05601) as a frozen trunk under two small heads.

Batch normalisations, and the factor 255 of the original's input, are folded into the convolutions when the published weights
are read, so the network has nothing but convolutions and is the same in training and serving.

A head adds two things. The first is what the published head says: the log of the summed odds of its views of a label, times a
gain. Its map is the views' published maps, each weighed by its share of the odds, with the entropy of these shares as a
constant. The second is linear in ``log1p`` of the pooled activations, which is not linear in the activations. Its map
therefore scales each channel by ``log1p(p) / p``, `p` being its pooled activation in that very frame. So the means of the maps
are the logits exactly, and each cell holds its share of the logit. They are no gradient.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.training.networks.outputs import Outputs, pool
from fetalmlops.training.networks.sononet import BLOCKS, EMBEDDING_LENGTH, EPSILON, INPUT_SCALE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BRAIN_GROUPS",
    "FEATURES_LENGTH",
    "LEAST_POOLED",
    "NOT_OF_GROUP",
    "PLANE_GROUPS",
    "VIEWS",
    "SonoNetPlanes",
    "load_trunk",
]

FEATURES_LENGTH: Final = BLOCKS[-2][-1] + BLOCKS[-1][-1]
"""Pooled channels of the last two blocks."""
LEAST_POOLED: Final = 1e-6
"""Below this a channel's pooled activation counts as none in the maps."""
VIEWS: Final = ("3VV", "4CH", "Abdominal", "Background", "Brain (Cb.)", "Brain (Tv.)", "Femur", "Kidneys", "Lips", "LVOT",
    "Profile", "RVOT", "Spine (cor.)", "Spine (sag.)")  # fmt: skip
"""Outputs of the published head, in its order."""
PLANE_GROUPS: Final[Mapping[Plane, tuple[str, ...]]] = {
    Plane.OTHER: ("Background", "Kidneys", "Lips", "Profile", "Spine (cor.)", "Spine (sag.)"),
    Plane.BRAIN: ("Brain (Cb.)", "Brain (Tv.)"),
    Plane.THORAX: ("3VV", "4CH", "LVOT", "RVOT"),
    Plane.ABDOMEN: ("Abdominal",),
    Plane.FEMUR: ("Femur",),
    Plane.CERVIX: ("Background",),
}
"""Views that stand for each plane; cervix is none of them, so it is told from the background by the linear part alone."""
BRAIN_GROUPS: Final[Mapping[BrainPlane, tuple[str, ...]]] = {
    plane: ("Brain (Cb.)",) if plane is BrainPlane.TRANS_CEREBELLUM else ("Brain (Tv.)",) for plane in BRAIN_PLANES
}
"""Views that stand for each sub-plane of the brain."""
NOT_OF_GROUP: Final = -1e4
"""What a view's odds are lowered by in a group that it is not of."""


class SonoNetPlanes(nn.Module):  # type: ignore[misc]
    """Plane head and brain head on SonoNet-16; both are what the published head says until they are fitted."""

    def __init__(self) -> None:
        super().__init__()
        blocks, inputs = [], 1
        for widths in BLOCKS:
            sizes = pairwise((inputs, *widths))
            blocks.append(nn.ModuleList([nn.Conv2d(size, width, 3, padding=1) for size, width in sizes]))
            inputs = widths[-1]
        self.blocks = nn.ModuleList(blocks)
        self.adaptation = nn.Conv2d(inputs, EMBEDDING_LENGTH, 1)
        self.views = nn.Conv2d(EMBEDDING_LENGTH, len(VIEWS), 1)
        self.plane_head = ViewHead(PLANE_GROUPS)
        self.brain_head = ViewHead(BRAIN_GROUPS)

    def forward(self, frames: Tensor) -> Outputs:
        """Return the outputs on standardised `frames`, [frames, 1, rows, columns]; the embedding is pooled, before log1p."""
        x, pooled = frames, []
        for index, block in enumerate(self.blocks):
            for conv in block:
                x = torch.relu(conv(x))
            pooled.append(pool(x))
            if index + 1 < len(self.blocks):
                x = torch.max_pool2d(x, 2)
        activations = torch.relu(self.adaptation(x))
        embedding = pool(activations)
        logarithms = torch.log1p(embedding)
        views = self.views(activations)
        view_logits = pool(views)
        gains = logarithms / embedding.clamp_min(LEAST_POOLED)
        maps = self.plane_head.maps(views, view_logits, activations * gains[:, :, None, None])
        features = torch.cat(pooled[-2:], dim=1)
        logits, brain_logits = (head(view_logits, logarithms) for head in (self.plane_head, self.brain_head))
        return Outputs(logits, brain_logits, embedding, features, maps)


class ViewHead(nn.Module):  # type: ignore[misc]
    """A head of labels, each of which some of the published views stand for.

    Parameters
    ----------
    groups
        The labels in their order, each with its views.
    """

    def __init__(self, groups: Mapping[Any, tuple[str, ...]]) -> None:
        super().__init__()
        outside = torch.tensor(
            [[0.0 if view in group else NOT_OF_GROUP for view in VIEWS] for group in groups.values()]
        )
        self.register_buffer("outside", outside, persistent=False)
        self.gain = nn.Parameter(torch.ones(1))
        self.residual = nn.Linear(EMBEDDING_LENGTH, len(groups))
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, view_logits: Tensor, logarithms: Tensor) -> Tensor:
        """Return the logits, from the published ones, [frames, views], and the pooled embedding's log1p, [frames, 64]."""
        shares, entropy = self._shares(view_logits)
        odds = (shares * view_logits[:, None]).sum(dim=2) + entropy
        return self.gain * odds + self.residual(logarithms)

    def maps(self, views: Tensor, view_logits: Tensor, scaled: Tensor) -> Tensor:
        """Return the maps whose means are the logits, from the published maps and the scaled activations."""
        shares, entropy = self._shares(view_logits)
        of_views = torch.matmul(shares, views.flatten(2)).unflatten(2, views.shape[2:])
        weight, bias = self.residual.weight, self.residual.bias
        return self.gain * (of_views + entropy[:, :, None, None]) + torch.conv2d(scaled, weight[:, :, None, None], bias)

    def _shares(self, view_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return each view's share of a label's odds, [frames, labels, views], and their entropy, [frames, labels]."""
        shares = torch.softmax(view_logits[:, None] + self.outside, dim=2)
        return shares, -torch.xlogy(shares, shares).sum(dim=2)


def load_trunk(network: SonoNetPlanes, state: Mapping[str, Tensor]) -> None:
    """Fill all but gains and linear parts of the heads from the state dict of the published SonoNet-16.

    Raises
    ------
    ContractError
        If names or shapes are not those of SonoNet-16.
    """
    try:
        with torch.no_grad():
            for row, block in enumerate(network.blocks):
                for column, conv in enumerate(block):
                    _fold(conv, state, f"features.{row}.{column}.0", f"features.{row}.{column}.1")
            _fold(network.adaptation, state, "adaption.0", "adaption.1")
            _fold(network.views, state, "adaption.3", "adaption.4")
            network.blocks[0][0].weight *= INPUT_SCALE
    except (KeyError, TypeError, RuntimeError):
        msg = "Expected the state dict of SonoNet-16, got another; give the published SonoNet16.pth"
        raise ContractError(msg, reason="weights") from None


def _fold(conv: nn.Conv2d, state: Mapping[str, Tensor], weight: str, norm: str) -> None:
    gain = state[f"{norm}.weight"].double() / torch.sqrt(state[f"{norm}.running_var"].double() + EPSILON)
    conv.weight.copy_((state[f"{weight}.weight"].double() * gain[:, None, None, None]).float())
    conv.bias.copy_((state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * gain).float())
