"""Single operations in small networks: what moves, what freezes and why, and the proof of it."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from between import Between, build
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import joslim
from joslim.errors import TracingError


class Table(nn.Module):
    """What is looked up for each of 16 positions, from three rows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.rand(3, 12))
        self.register_buffer("rows", torch.arange(16) % 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[self.rows].view(4, 4, -1).permute(2, 0, 1)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(12, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def _product(halves: Sequence[Tensor]) -> Tensor:
    return halves[0] * halves[1]


def _attention(x: Tensor) -> Tensor:
    heads = x.unflatten(-1, (-1, 3)).transpose(1, 2)
    return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)


def _covariances(x: Tensor) -> Tensor:
    return x @ x.transpose(1, 2)


def _rows(heads: Tensor, x: Tensor) -> Tensor:
    return heads.view(x.shape[0], x.size(1), x.shape[2], -1)


FOLLOWED = {
    "layer scale": (lambda m, x: m.layers[0](x) + x, [Scale()]),
    "named operands": (
        lambda m, x: torch.add(input=x, other=m.layers[0](x)), [nn.Conv2d(12, 12, 1)],
    ),
    "batch norm without training": (lambda m, x: m.layers[0](x), [FrozenBatchNorm2d(12)]),
    "group norm": (lambda m, x: m.layers[0](x), [nn.GroupNorm(4, 12)]),
    "layer norm": (
        lambda m, x: m.layers[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), [nn.LayerNorm(12)],
    ),
    "grouped convolution": (lambda m, x: m.layers[0](x), [nn.Conv2d(12, 12, 1, groups=3)]),
    "gated channels": (
        lambda m, x: m.layers[1](_product(m.layers[0](x).chunk(2, 1))),
        [nn.Conv2d(12, 24, 1), nn.Conv2d(12, 12, 1)],
    ),
    "heads of any number": (
        lambda m, x: _rows(x.reshape(x.size(0), -1, 3, 16).tanh(), x), [],
    ),
    "padding and slices": (
        lambda m, x: F.pad(x, (1, 1, 0, 2))[..., 1:, ::2][:, :, None].squeeze(2), [],
    ),
    "weight without a layer": (
        lambda m, x: F.linear(x.transpose(1, 3), m.layers[0].weight, m.layers[0].bias)
        .permute(0, 3, 2, 1),
        [nn.Linear(12, 12)],
    ),
    "heads of 3 channels": (
        lambda m, x: m.layers[0](_attention(x.flatten(2).permute(0, 2, 1)))
        .permute(0, 2, 1)[..., None],
        [nn.Linear(12, 12)],
    ),
    "products of channels": (
        lambda m, x: x * _covariances(x.flatten(2)).mean((1, 2), True)[..., None], [],
    ),
    "rows of a table": (lambda m, x: m.layers[0](x), [Table()]),
    "padding up to a multiple, rolled": (
        lambda m, x: torch.roll(F.pad(x, (0, -x.shape[3] % 3)), (1, 2), (2, 3)), [],
    ),
    "positions flattened": (
        lambda m, x: m.layers[0](x.permute(0, 2, 3, 1).flatten(1))[:, :, None, None],
        [nn.Linear(192, 12)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_channels_move_through(name: str):
    between, layers = FOLLOWED[name]
    network = build(between, *layers)
    assert all(group.frozen is None for group in network.space.groups), network.space.groups
    network.verify()
    x = torch.randn(2, 3, 6, 6)
    widths = network.space.smallest
    torch.testing.assert_close(network(x, widths), network.extract(widths)(x))


FROZEN = {
    "cumsum": (lambda m, x: x.cumsum(1), "node 'cumsum' (cumsum) has no rule for them"),
    "literal": (
        lambda m, x: x.view(x.shape[0], 12, -1)[..., None],
        "node 'view' (view) writes down the number of channels in (12,)",
    ),
    "index": (
        lambda m, x: x[:, [*range(12)]], "node 'getitem' (getitem) picks some of the channels",
    ),
    "roll": (lambda m, x: x.roll(1, 1), "node 'roll' (roll) changes the order of channels"),
    "unbind": (
        lambda m, x: x * x.unbind(1)[0][:, None], "node 'unbind' (unbind) takes channels apart",
    ),
    "length": (
        lambda m, x: x * x.new_ones(x.shape[1], 1, 1),
        "node 'new_ones' (new_ones) has no rule for them",
    ),
    "transposed": (lambda m, x: x.mT, "node 'getattr_1' (getattr) has no rule for 'mT'"),
    "slice of channel length": (
        lambda m, x: x.repeat(1, 1, 4, 1)[:, :, : x.shape[1]],
        "node 'repeat' (repeat) has no rule for them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FROZEN)
def test_channels_freeze_at(name: str):
    between, reason = FROZEN[name]
    before, after = build(between).space.groups
    assert before.frozen == reason
    assert before.smallest == before.full == 12
    assert after.frozen is None


def test_grouped_convolutions_count_whole_groups():
    network = build(lambda m, x: m.layers[0](x), nn.Conv2d(12, 6, 3, groups=3), inputs=6)
    group = network.space.groups[0]
    assert (group.name, group.full, group.members) == ("before", 3, ("before", "layers.0"))
    dense = network.extract((2, 24))
    assert dense.before.out_channels == 8
    assert (dense.layers[0].groups, dense.layers[0].out_channels) == (2, 4)
    sliced = network.model.before.weight[:8]
    assert torch.equal(dense.before.weight, sliced)


def test_a_divisor_counts_channels_not_units():
    layers = nn.Conv2d(12, 12, 1, groups=6)
    torch.manual_seed(0)
    model = Between(lambda m, x: m.layers[0](x), layers)
    network = joslim.slimmable(model, torch.randn(2, 3, 6, 6), divisor=4)
    assert [group.divisor for group in network.space.groups] == [2, 4]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_module_that_cannot_be_traced_is_named_and_can_be_a_leaf():
    torch.manual_seed(0)
    model = Between(lambda m, x: m.layers[0](x), Branching())
    x = torch.randn(2, 3, 6, 6)
    with pytest.raises(
        TracingError,
        match=r"torch\.fx cannot trace 'layers\.0' \(Branching\).*leaves=\(Branching,\)",
    ):
        joslim.slimmable(model, x)
    network = joslim.slimmable(model, x, leaves=(Branching,))
    before, after = network.space.groups
    assert before.frozen == "node 'layers_0' (Branching) has no rule for them"
    assert after.frozen is None


def test_the_network_is_left_as_it_is():
    torch.manual_seed(0)
    model = Between(lambda m, x: x + torch.arange(4))
    before = {**vars(model)}
    joslim.slimmable(model, torch.randn(2, 3, 6, 6))
    assert vars(model) == before


def test_an_image_of_the_wrong_size_is_named():
    model = Between(lambda m, x: x)
    with pytest.raises(TracingError, match=r"^Between does not run on \(1, 4, 6, 6\): [^\n]*$"):
        joslim.slimmable(model, torch.randn(2, 4, 6, 6))


def test_parameters_that_do_not_run_are_an_error():
    with pytest.raises(TracingError, match=r"'layers\.0\.weight' takes no part in evaluation"):
        build(lambda m, x: x, nn.Conv2d(12, 4, 1))


def test_one_parameter_under_two_names_stays_as_it_is():
    torch.manual_seed(0)
    model = Between(
        lambda m, x: m.layers[1](m.layers[0](x)), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)
    )
    model.layers[1].weight = model.layers[0].weight
    x = torch.randn(2, 3, 6, 6)
    network = joslim.slimmable(model, x)
    shared = "'layers.1.weight' is the same parameter as 'layers.0.weight'"
    assert [group.frozen for group in network.space.groups] == [shared, shared, shared, None]
    dense = network.extract(network.space.smallest)
    assert dense.layers[1].weight is dense.layers[0].weight
    torch.testing.assert_close(network(x, network.space.smallest), dense(x))
