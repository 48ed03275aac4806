"""Modules that stand in for stock ones: same weights, same results, and heads that can go."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from slimmable_folder import ALLOW
from small_transformers import TRANSFORMERS
from torch import Tensor, nn

import joslim
from benchmarks.networks import counted_macs
from joslim.supernet.channel_order import importance
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_supernet, save_subnetwork, save_supernet
from joslim.supernet.subnetwork import Subnetwork
from joslim.tracing.rewrites import REPLACEMENTS, make_traceable
from joslim.tracing.rewrites.attention import SelfAttention

HEADS = {
    "vit": ("in_proj_weight", "out_proj"),
    "swin": ("attn.qkv", "proj"),
    "swin_v2": ("attn.qkv", "proj"),
    "maxvit": ("to_qkv", "merge"),
}
"""How groups of heads end in each network, and the layer that reads the heads."""


def images(size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, size, size, dtype=torch.float64, generator=generator)


def build(name: str, **kwargs: float) -> nn.Module:
    """A network in float64 in which nothing is zero or one by its initialisation."""
    torch.manual_seed(0)
    model = TRANSFORMERS[name](**kwargs).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module", params=TRANSFORMERS)
def case(request: pytest.FixtureRequest) -> tuple[str, joslim.SlimmableNetwork]:
    model = build(request.param)
    return request.param, joslim.slimmable(model, images(), min_width=0.25).eval()


def random_widths(network: joslim.SlimmableNetwork, count: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [network.space.random(generator) for _ in range(count)]


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("is_training", [False, True])
def test_outputs_and_gradients_are_the_stock_models(name: str, is_training: bool):
    model = build(name, dropout=0.25 if is_training else 0.0).train(is_training)
    twin = make_traceable(model)
    found = []
    for network in (model, twin):
        torch.manual_seed(2)
        outputs = network(images())
        gradients = torch.autograd.grad(outputs.square().sum(), list(network.parameters()))
        found.append((outputs, *gradients))
    for ours, stock in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, stock, rtol=0, atol=1e-10 * (1 + stock.abs().max().item()))


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_outputs_without_gradients_are_the_stock_models(name: str):
    model = build(name)
    torch.testing.assert_close(make_traceable(model)(images()), model(images()), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["swin", "swin_v2"])
@pytest.mark.parametrize("size", [28, 56, 61, 100])
@torch.no_grad()
def test_windows_shift_and_pad_as_in_the_stock_model(name: str, size: int):
    model = build(name)
    torch.testing.assert_close(
        make_traceable(model)(images(size)), model(images(size)), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_are_shared_and_the_model_is_left_as_it_is(name: str):
    model = build(name)
    types = [type(module) for module in model.modules()]
    before = [{**vars(module)} for module in model.modules()]
    network = joslim.slimmable(model, images())
    assert [type(module) for module in model.modules()] == types
    assert [{**vars(module)} for module in model.modules()] == before
    assert list(network.model.state_dict()) == list(model.state_dict())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in [*network.model.named_parameters(), *network.model.named_buffers()]:
        assert tensor is tensors[name]
    assert any(type(module) in REPLACEMENTS.values() for module in network.model.modules())


def test_other_networks_are_not_copied():
    model = joslim.networks.create("resnet8", 10)
    assert make_traceable(model) is model
    attention = nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True))
    assert make_traceable(attention, leaves=(nn.MultiheadAttention,)) is attention


def test_slices_orders_and_gradients_are_right(case):
    _, network = case
    network.verify()


def test_all_moves_and_heads_are_whole(case):
    name, network = case
    ending, reader = HEADS[name]
    assert all(group.frozen is None for group in network.space.groups)
    heads = [group for group in network.space.groups if group.name.endswith(ending)]
    assert len(heads) == 4 if name != "vit" else 2
    for group in heads:
        assert group.divisor == 1
        assert 1 <= group.smallest < group.full
        layer = group.name.rpartition(".")[0]
        (part,) = network.trace.tensors[f"{layer}.{reader}.weight"][1]
        assert network.space.groups[part.group] == group
        assert part.full == group.full * 8


def test_costs_equal_counts_on_the_extracted_network(case):
    _, network = case
    macs, params = joslim.costs.macs(network), joslim.costs.params(network)
    for widths in [network.space.full, network.space.smallest, *random_widths(network, 3)]:
        dense = network.extract(widths)
        assert macs(widths) == counted_macs(dense, images()[:1])
        assert params(widths) == sum(p.numel() for p in dense.parameters())


@torch.no_grad()
def test_missing_heads_are_heads_that_nobody_reads(case):
    name, network = case
    ending, reader = HEADS[name]
    widths, silent = list(network.space.full), copy.deepcopy(network)
    for index, group in enumerate(network.space.groups):
        if group.name.endswith(ending):
            widths[index] = group.full // 2
            layer = group.name.rpartition(".")[0]
            weight = silent.model.get_parameter(f"{layer}.{reader}.weight")
            weight[:, weight.shape[1] // 2 :] = 0
    found = network(images(), tuple(widths))
    torch.testing.assert_close(found, silent(images()), rtol=0, atol=1e-10)
    assert not torch.allclose(found, network(images()))


def test_extracted_networks_stand_alone(case):
    _, network = case
    widths = random_widths(network, 1)[0]
    dense = network.extract(widths).eval()
    program = torch.export.export(dense, (images(),)).module()
    torch.testing.assert_close(program(images()), network(images(), widths))
    for module in dense.modules():
        if isinstance(module, SelfAttention):
            assert module.out_proj.in_features == module.num_heads * module.head_dim
            assert module.out_proj.out_features == module.embed_dim == dense.hidden_dim
    shared = {tensor.data_ptr() for tensor in network.model.parameters()}
    assert not shared & {tensor.data_ptr() for tensor in dense.parameters()}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_are_saved_and_built_again(name: str, tmp_path: Path):
    spec = NetworkSpec(f"small_transformers:{name}", 10, 3, 64, (0.5,) * 3, (0.25,) * 3, 0.25)
    network = spec.build(allow=ALLOW).eval()
    x = images().float()
    save_supernet(tmp_path / "supernet", network, spec)
    again, _ = load_supernet(tmp_path / "supernet", allow=ALLOW)
    widths = random_widths(network, 1)[0]
    torch.testing.assert_close(again.eval()(x, widths), network(x, widths), rtol=0, atol=0)
    dense = network.extract(widths)
    save_subnetwork(tmp_path / "subnetwork", Subnetwork.of(network, spec, widths))
    loaded = joslim.load(tmp_path / "subnetwork", allow=ALLOW)
    torch.testing.assert_close(loaded(x), dense(x), rtol=0, atol=0)


class Sequence(nn.Module):
    """Four positions of eight channels, with attention of the caller's own."""

    def __init__(self, attend: Callable[..., Any], **kwargs: object) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 3, stride=3)
        self.attention = nn.MultiheadAttention(8, 4, **{"batch_first": True, **kwargs})
        self.attend = attend
        self.widen = nn.Linear(8, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).permute(0, 2, 1)
        x = x + self.attend(self.attention, x)[0]
        return self.head(self.widen(x).relu().mean(1))


def plain(attention: nn.Module, x: Tensor) -> Any:
    return attention(x, x, x, need_weights=False)


def sequence(attend: Callable[..., Any], **kwargs: object) -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    return joslim.slimmable(Sequence(attend, **kwargs), torch.randn(2, 3, 6, 6), min_width=0.25)


@pytest.mark.parametrize("bias", [True, False])
def test_any_plain_self_attention_moves(bias: bool):
    network = sequence(plain, bias=bias)
    assert [g.name for g in network.space.groups] == ["embed", "attention.in_proj_weight", "widen"]
    assert [g.frozen for g in network.space.groups] == [None] * 3
    network.verify()


STOCK: dict[str, tuple[Callable[..., Any], dict[str, object]]] = {
    "weights wanted": (lambda attention, x: attention(x, x, x), {}),
    "mask": (
        lambda attention, x: attention(
            x, x, x, need_weights=False, attn_mask=torch.zeros(4, 4).bool()
        ),
        {},
    ),
    "other keys": (lambda attention, x: attention(x, x + 1, x, need_weights=False), {}),
    "bias of keys": (plain, {"add_bias_kv": True}),
    "zero attention": (plain, {"add_zero_attn": True}),
    "other dimensions": (plain, {"batch_first": False}),
}


@pytest.mark.parametrize("name", STOCK)
def test_other_attention_stays_as_it_is(name: str):
    attend, kwargs = STOCK[name]
    network = sequence(attend, **kwargs)
    embed, widen = (g for g in network.space.groups if g.name in ("embed", "widen"))
    assert "cuts the whole embedding into its heads" in embed.frozen
    assert widen.frozen is None
    network.verify()


@pytest.mark.parametrize("calls", [(True, False), (False, True)])
def test_attention_that_is_called_in_two_ways_keeps_its_heads(calls: tuple[bool, bool]):
    def twice(attention: nn.Module, x: Tensor) -> Any:
        first, second = (attention(x, x, x, need_weights=wanted)[0] for wanted in calls)
        return (first + second,)

    network = sequence(twice)
    assert [g.name for g in network.space.groups if g.frozen is None] == ["widen"]
    network.verify()


@torch.no_grad()
def test_heads_and_the_embedding_are_sorted_by_the_weights_that_read_them():
    network = sequence(plain)
    model, x = network.model, torch.randn(2, 3, 6, 6)
    for head, scale in enumerate((3.0, 1.0, 4.0, 2.0)):
        model.attention.out_proj.weight[:, 2 * head : 2 * head + 2] = scale
    read = model.attention.in_proj_weight.abs().sum(0) + model.widen.weight.abs().sum(0)
    torch.testing.assert_close(importance(network.trace, model, 0), read.double())
    assert importance(network.trace, model, 1).tolist() == [48.0, 16.0, 64.0, 32.0]
    outputs = network(x)
    network.sort_channels_()
    assert model.attention.out_proj.weight[0, ::2].tolist() == [4.0, 3.0, 2.0, 1.0]
    torch.testing.assert_close(network(x), outputs)
