"""Stock layers and functions: channels move through them, with proof, at exact costs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from between import Between, build
from torch import Tensor, nn

import joslim
from benchmarks.networks import counted_macs


def _distinct(layer: nn.Module) -> nn.Module:
    """The layer with parameters of which no two are alike."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(0.1, 1.0)
    return layer


def _positions(m: nn.Module, x: Tensor) -> Tensor:
    places = torch.arange(x.shape[2] * x.shape[3])
    return (x.flatten(2).transpose(1, 2) + m.layers[0](places)).transpose(1, 2).unflatten(2, (4, 4))


def _list_of_chunks(m: nn.Module, x: Tensor) -> Tensor:
    parts = list(x.chunk(2, 1))
    parts.append(parts[-1].relu())
    return torch.concat(parts, 1)


def _halves_by_size(m: nn.Module, x: Tensor) -> Tensor:
    first, second = x.split(x.shape[1] // 2, 1)
    return torch.max(first, second)


def _largest(x: Tensor) -> Tensor:
    values, _ = x.max(1, keepdim=True)
    return x * values


LAYERS = {
    "PReLU": (nn.PReLU(), 12),
    "PReLU of each channel": (nn.PReLU(12), 12),
    "instance norm": (nn.InstanceNorm2d(12), 12),
    "instance norm with statistics": (
        nn.InstanceNorm2d(12, affine=True, track_running_stats=True), 12,
    ),
    "synchronised batch norm": (nn.SyncBatchNorm(12), 12),
    "gated": (nn.GLU(1), 6),
    "pixel shuffle": (nn.PixelShuffle(2), 3),
    "pixel unshuffle": (nn.PixelUnshuffle(2), 48),
    "channel shuffle": (nn.ChannelShuffle(3), 12),
    "transposed convolution": (nn.ConvTranspose2d(12, 8, 3, 2), 8),
    "grouped transposed convolution": (nn.ConvTranspose2d(12, 8, 2, 2, groups=4), 8),
    "depthwise transposed convolution": (nn.ConvTranspose2d(12, 12, 2, groups=12, bias=False), 12),
    "circular padding": (nn.CircularPad2d(1), 12),
    "power pooling": (nn.LPPool2d(2, 2), 12),
    "dropout of channels": (nn.FeatureAlphaDropout(), 12),
    "soft sign": (nn.Softsign(), 12),
    "log sigmoid": (nn.LogSigmoid(), 12),
    "threshold": (nn.Threshold(0.1, 20.0), 12),
    "unflattened": (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 4))), 12),
}  # fmt: skip

FUNCTIONS = {
    "rms norm": (lambda m, x: m.layers[0](x.movedim(1, -1)).movedim(-1, 1), nn.RMSNorm(12)),
    "functional PReLU": (lambda m, x: F.prelu(x, m.layers[0].weight), nn.PReLU(12)),
    "functional instance norm": (
        lambda m, x: F.instance_norm(x, weight=m.layers[0].weight, bias=m.layers[0].bias),
        nn.BatchNorm2d(12, track_running_stats=False),
    ),
    "largest of channels": (lambda m, x: x * torch.max(x, 1, keepdim=True)[0], None),
    "largest of channels by name": (lambda m, x: x * x.min(1, keepdim=True).values, None),
    "largest of all": (lambda m, x: x * x.max(), None),
    "largest of channels, its place unused": (lambda m, x: _largest(x), None),
    "functional pixel shuffle": (
        lambda m, x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), downscale_factor=2), None,
    ),
    "larger of two": (lambda m, x: torch.max(x, 0.5 - x), None),
    "chosen by a comparison": (lambda m, x: torch.where(x > 0, x, x * 0.1), None),
    "a comparison": (lambda m, x: (x > 0.5).float() - 0.5, None),
    "compared with its mean": (lambda m, x: x * (x >= x.mean(1, keepdim=True)), None),
    "other spellings": (lambda m, x: torch.clip(torch.multiply(x, 2), -1, 1).subtract(0.5), None),
    "masked": (lambda m, x: x.masked_fill(x < 0, 0.25), None),
    "moved": (lambda m, x: torch.moveaxis(x, (1, 2), (3, 1)).tanh().movedim((3, 1), (1, 2)), None),
    "batched product": (
        lambda m, x: x + torch.bmm(x.flatten(2).transpose(1, 2), x.flatten(2)).mean((1, 2))[
            :, None, None, None
        ],
        None,
    ),
    "gated by a function": (lambda m, x: F.glu(torch.cat([x, -x], 1), 1), None),
    "positions embedded": (_positions, nn.Embedding(16, 12)),
    "a list of chunks": (lambda m, x: _list_of_chunks(m, x)[:, :], None),
    "halves by their size": (_halves_by_size, None),
    "an activation of one's own": (lambda m, x: x * torch.log1p(x.square()).erf(), None),
}  # fmt: skip


def check(network: joslim.SlimmableNetwork) -> None:
    assert all(group.frozen is None for group in network.space.groups), network.space.groups
    network.verify()
    widths = network.space.smallest
    dense = network.extract(widths)
    assert joslim.costs.macs(network)(widths) == counted_macs(dense, torch.zeros(1, 3, 6, 6))
    assert joslim.costs.params(network)(widths) == sum(p.numel() for p in dense.parameters())
    again = copy.deepcopy(network)
    again.sort_channels_()
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(again.eval()(x), network.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_channels_move_through_layers(name: str):
    layer, outputs = LAYERS[name]
    check(build(lambda m, x: m.layers[0](x), _distinct(copy.deepcopy(layer)), inputs=outputs))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_channels_move_through_functions(name: str):
    function, layer = FUNCTIONS[name]
    layers = [] if layer is None else [_distinct(copy.deepcopy(layer))]
    inputs = {"a list of chunks": 18, "halves by their size": 6}.get(name, 12)
    check(build(function, *layers, inputs=inputs))


def test_the_place_of_a_channel_is_not_followed():
    network = build(lambda m, x: x * torch.max(x, 1, keepdim=True)[1])
    reason = "node 'max_1' (max) looks up at which of the channels it is"
    assert network.space.groups[0].frozen == reason


class Squashed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


def test_a_leaf_that_works_element_by_element_is_followed():
    torch.manual_seed(0)
    model = Between(lambda m, x: m.layers[0](x), Squashed())
    network = joslim.slimmable(model, torch.randn(2, 3, 6, 6), leaves=(Squashed,))
    assert [node.target for node in network.trace.graph.nodes].count("layers.0") == 1
    assert [group.frozen for group in network.space.groups] == [None, None]
    network.verify()


def test_pooling_that_takes_channels_for_positions_is_not_followed():
    network = build(
        lambda m, x: m.layers[0](x.mean((2, 3)))[..., None, None], nn.MaxPool1d(3, 1, 1)
    )
    reason = "node 'layers_0' (MaxPool1d) takes a single image, not a batch"
    assert network.space.groups[0].frozen == reason


def test_rows_that_are_scaled_as_they_are_read_are_not_followed():
    network = build(_positions, nn.Embedding(16, 12, max_norm=1.0))
    assert network.space.groups[0].frozen == "node 'add' joins them with fixed channels"
