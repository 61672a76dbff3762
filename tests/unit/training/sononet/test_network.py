"""SonoNet-16: weights, heads, maps and export; needs the train extra."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("onnx", reason="training needs the train extra")

from torch import nn  # noqa: E402

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES  # noqa: E402
from fetalmlops.domain.errors import ContractError  # noqa: E402
from fetalmlops.domain.models.engine import OUTPUT_NAMES  # noqa: E402
from fetalmlops.training.networks.sononet import EMBEDDING_LENGTH  # noqa: E402
from fetalmlops.training.sononet.export import export_sononet, read_weights  # noqa: E402
from fetalmlops.training.sononet.heads import Head, Views  # noqa: E402
from fetalmlops.training.sononet.network import (  # noqa: E402
    BRAIN_GROUPS,
    FEATURES_LENGTH,
    PLANE_GROUPS,
    VIEWS,
    SonoNetPlanes,
    load_trunk,
)

pytestmark = pytest.mark.torch


Published = tuple[nn.Sequential, nn.Sequential]


def state_of(published: Published) -> dict[str, torch.Tensor]:
    features, adaption = published
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    state |= {f"adaption.{name}": tensor for name, tensor in adaption.state_dict().items()}
    return state


@pytest.fixture
def network(sononet: Published) -> SonoNetPlanes:
    made = SonoNetPlanes().eval()
    load_trunk(made, state_of(sononet))
    return made


def fit_all(network: SonoNetPlanes) -> None:
    """Give every part of the heads values as a fit would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for head in (network.plane_head, network.brain_head):
            head.gain.fill_(0.6)
            head.residual.weight.normal_()
            head.residual.bias.normal_()


def test_the_folded_trunk_says_what_the_published_one_says(network: SonoNetPlanes, sononet: Published) -> None:
    features, adaption = sononet
    frames = torch.randn(3, 1, 64, 48)
    with torch.no_grad():
        outputs, blocks = network(frames), features(255 * frames)
        expected = adaption[:3](blocks).mean(dim=(2, 3))
        views = adaption(blocks).mean(dim=(2, 3))
    torch.testing.assert_close(outputs.embedding, expected, rtol=1e-4, atol=1e-4)
    # Until they are fitted the heads sum the published odds of each label's views.
    for said, groups in ((outputs.logits, PLANE_GROUPS), (outputs.brain_logits, BRAIN_GROUPS)):
        odds = [views[:, [VIEWS.index(view) for view in group]].logsumexp(dim=1) for group in groups.values()]
        torch.testing.assert_close(said, torch.stack(odds, dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs.features[:, 128:], blocks.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)
    assert outputs.embedding.shape[1] == EMBEDDING_LENGTH
    assert outputs.features.shape[1] == FEATURES_LENGTH


def test_every_label_has_views_in_the_order_of_the_outputs() -> None:
    assert tuple(PLANE_GROUPS) == PLANES
    assert tuple(BRAIN_GROUPS) == BRAIN_PLANES
    assert {view for group in PLANE_GROUPS.values() for view in group} == set(VIEWS)


def test_what_is_fitted_is_what_the_network_says(network: SonoNetPlanes) -> None:
    rng = np.random.default_rng(0)
    fit_all(network)
    head = network.plane_head
    fitted = Head(
        head.gain.item(), *(each.detach().double().numpy() for each in (head.residual.weight, head.residual.bias))
    )
    with torch.no_grad():
        outputs = network(torch.from_numpy(rng.normal(size=(3, 1, 64, 48)).astype(np.float32)))
    embedding = outputs.embedding.numpy()
    said = fitted.logits(Views.of(network).odds(embedding, PLANE_GROUPS), embedding)
    np.testing.assert_allclose(said, outputs.logits.numpy(), rtol=1e-4, atol=1e-4)


def test_the_maps_share_out_the_logits_exactly(network: SonoNetPlanes) -> None:
    fit_all(network)
    with torch.no_grad():
        outputs = network(torch.randn(2, 1, 64, 48))
    torch.testing.assert_close(outputs.maps.mean(dim=(2, 3)), outputs.logits, rtol=1e-4, atol=1e-4)
    assert outputs.maps.std(dim=(2, 3)).min() > 0


def test_the_exported_graph_says_what_the_network_says_and_holds_its_weights(network: SonoNetPlanes) -> None:
    import openvino

    fit_all(network)
    data = export_sononet(network, 64, 48)
    frames = np.random.default_rng(0).normal(size=(3, 1, 64, 48)).astype(np.float32)
    core = openvino.Core()
    results = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(frames)
    with torch.no_grad():
        expected = network(torch.from_numpy(frames))
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(results[name], getattr(expected, name).numpy(), rtol=1e-3, atol=1e-4)
    other = SonoNetPlanes()
    assert export_sononet(other, 64, 48) != data
    read_weights(other, data)
    assert export_sononet(other, 64, 48) == data


def test_a_frame_without_any_activation_gives_the_bias_and_no_nan(network: SonoNetPlanes) -> None:
    with torch.no_grad():
        network.adaptation.weight.zero_()
        network.adaptation.bias.fill_(-1)
        outputs = network(torch.zeros(1, 1, 32, 32))
        views = [network.views.bias[[VIEWS.index(view) for view in group]] for group in PLANE_GROUPS.values()]
    torch.testing.assert_close(outputs.logits[0], torch.stack([each.logsumexp(dim=0) for each in views]))
    assert torch.isfinite(outputs.maps).all()


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_of_another_network_are_refused(change: str, sononet: Published) -> None:
    state = state_of(sononet)
    if change == "missing":
        del state["features.2.1.0.weight"]
    else:
        state["adaption.0.weight"] = torch.zeros(32, 128, 1, 1)
    with pytest.raises(ContractError, match="SonoNet-16"):
        load_trunk(SonoNetPlanes(), state)
