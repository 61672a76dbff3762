"""Weights between those of the beginning and those of the end."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from fetalmlops.training.starting import mixed, weights_of  # noqa: E402

pytestmark = pytest.mark.torch


def test_weights_lie_between_beginning_and_end_and_counters_stay_those_of_the_end() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    began = weights_of(network)
    with torch.no_grad():
        network[0].weight += 4.0
        network[1].num_batches_tracked += 3
    between = mixed(weights_of(network), began, 0.25)
    assert torch.allclose(between["0.weight"], began["0.weight"] + 3.0)
    assert torch.equal(between["0.bias"], began["0.bias"])
    assert int(between["1.num_batches_tracked"]) == 3
