"""Layers as functions of their parameters, and numbers that modules keep: what moves, and proof."""

import math
import re

import pytest
import torch
from own_layers import FOLLOWED, Heads, NormAct, Rows, StandardisedConv
from torch import Tensor, nn

import joslim

IMAGE = (2, 3, 6, 6)


class Inside(nn.Module):
    """A module between a convolution of 12 channels and one that reads ``outputs``."""

    def __init__(self, inside: nn.Module, outputs: int = 12):
        super().__init__()
        self.before = nn.Conv2d(3, 12, 3, padding=1)
        self.inside = inside
        self.after = nn.Conv2d(outputs, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(self.before(x))
        return self.head(self.after(x).relu().mean((2, 3)))


def build(*args: object) -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    return joslim.slimmable(Inside(*args), torch.randn(IMAGE), min_width=0.25)


@pytest.mark.parametrize("name", FOLLOWED)
def test_channels_move_through(name: str):
    module = FOLLOWED[name]()
    network = build(module, {"first and last channels": 15, "splits of a half": 16}.get(name, 12))
    assert all(group.frozen is None for group in network.space.groups), network.space.groups
    assert joslim.costs.movable_fraction(network) == 1
    network.verify()
    dense = network.extract(network.space.smallest)
    counted = sum(parameter.numel() for parameter in dense.parameters())
    assert joslim.costs.params(network)(network.space.smallest) == counted


def test_attributes_that_count_channels_are_narrow_in_narrow_networks_only():
    network = build(Rows())
    dense = network.extract((5, 8))
    assert (dense.inside.channels, dense.inside.shape) == (5, (5, 1, 1))
    network(torch.randn(IMAGE), (5, 8))
    inside = network.model.inside
    assert (inside.channels, inside.shape) == (12, (12, 1, 1))
    assert type(inside.channels) is type(inside.shape[0]) is int


def test_heads_go_whole_and_apart_from_the_embedding():
    network = build(Heads())
    assert [(group.name, group.full) for group in network.space.groups] == [
        ("before", 12), ("inside.qkv", 4), ("inside.proj", 12), ("after", 8),
    ]  # fmt: skip
    inside = network.extract((5, 2, 7, 8)).inside
    assert (inside.num_heads, inside.head_dim, inside.attn_dim) == (2, 3, 6)
    assert (inside.qkv.out_features, inside.proj.in_features) == (18, 6)


def test_layers_of_their_own_kind_describe_themselves_when_narrow():
    network = build(nn.Sequential(StandardisedConv(12, 12, 1), NormAct(12)))
    conv, norm = network.extract((5, 7, 8)).inside
    assert (conv.in_channels, conv.out_channels, norm.num_features) == (5, 7, 7)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels = 12


class Computed(Named):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.channels, 6, 6) / (self.channels - 1)


class Converted(Named):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.channels, 6, 6) / math.sqrt(self.channels)


class ReadTwice(Named):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], self.channels, 6, 6) / (x.shape[-1] + self.channels)


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.shape[1] > 4 else x


class Cuts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.split([4, 8], 1)[1]


FROZEN = {
    "computed": (Computed, 12, r"\(view\) reads 'channels', which .* code also computes with"),
    "converted": (Converted, 12, r"\(view\) reads 'channels', which .* also computes with"),
    "read": (ReadTwice, 12, r"node 'add.*' reads 'channels' as a fixed number"),
    "asks": (Asks, 12, r"\(gt\) compares their number"),
    "cuts": (Cuts, 8, r"\(split\) writes down the number of channels in \(4, 8\)"),
}


@pytest.mark.parametrize("name", FROZEN)
def test_channels_freeze_where_code(name: str):
    module, outputs, reason = FROZEN[name]
    before, *_ = build(module(), outputs).space.groups
    assert before.frozen is not None
    assert re.search(reason, before.frozen), before.frozen


class Windows(nn.Module):
    """A convolution on the four quarters of an image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = x.view(-1, channels, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5)
        x = self.conv(x.reshape(4 * x.shape[0], channels, 3, 3))
        x = x.view(-1, 2, 2, channels, 3, 3).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(-1, channels, 6, 6)


def test_windows_in_the_batch_count():
    network = build(Windows())
    counted = sum(36 * taps for taps in (3 * 9 * 12, 12 * 12, 12 * 8)) + 8 * 5
    assert joslim.costs.macs(network).full == counted


def test_a_module_under_two_names_is_left_as_it_is():
    module = nn.Sequential(nn.Conv2d(12, 12, 1), nn.ReLU())
    module.append(module[0])
    network = build(module)
    network(torch.randn(IMAGE), network.space.smallest)
    assert all(isinstance(p, nn.Parameter) for p in (module[0].weight, module[2].weight))
    network.verify()
