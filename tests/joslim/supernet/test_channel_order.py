"""Importance on hand-worked weights, and what sorting by it keeps."""

import torch
from torch import nn

import joslim
from joslim.supernet.channel_order import importance


def flattened() -> joslim.SlimmableNetwork:
    """Three channels of two positions each, read by one linear layer."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -4.0, 2.0]))
        model[3].weight.copy_(
            torch.tensor([[1.0, -1.0, 2.0, 0.0, 3.0, 3.0], [0.0, 2.0, 0.0, -1.0, -2.0, 1.0]])
        )
    return joslim.slimmable(model, torch.randn(2, 1, 1, 2)).eval()


def test_importance_is_the_norm_of_the_weights_that_read_times_the_scale():
    network = flattened()
    found = importance(network.trace, network.model, 0)
    assert found.tolist() == [4.0 * 1.0, 3.0 * 4.0, 9.0 * 2.0]


def test_sorting_puts_the_most_important_channels_first():
    network = flattened()
    x = torch.randn(4, 1, 1, 2)
    before = network(x)
    network.sort_channels_()
    assert network.model[1].weight.tolist() == [2.0, -4.0, 1.0]
    assert network.model[3].weight[0].tolist() == [3.0, 3.0, 2.0, 0.0, 1.0, -1.0]
    assert isinstance(network.model[3].weight, nn.Parameter)
    torch.testing.assert_close(network(x), before)
