"""A rule of one's own, for an operation that `torch.fx` keeps whole."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

import joslim
from joslim.errors import TracingError
from joslim.tracing import TensorValue, Unfollowed, Walk, fixed
from joslim.tracing.rules import table


class Limited(nn.Module):
    """Scales each channel, and all of them down where one is too large."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * x
        if (largest := x.abs().max()) > 0.5:
            x = x / largest
        return x


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), Limited(12), nn.Conv2d(12, 8, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def follow_limited(walk: Walk, node: fx.Node) -> TensorValue:
    axes = walk.axes(node.args[0])
    walk.own(node, f"{node.target}.scale", (axes[1], *fixed((1, 1))))
    return TensorValue(axes)


@pytest.fixture(autouse=True)
def tables_as_they_were() -> Iterator[None]:
    before = {name: dict(getattr(table, name)) for name in ("MODULES", "FUNCTIONS", "METHODS")}
    yield
    for name, content in before.items():
        getattr(table, name).clear()
        getattr(table, name).update(content)


IMAGE = torch.zeros(2, 3, 6, 6)


def test_channels_move_through_an_operation_with_a_rule():
    with pytest.raises(TracingError, match=r"torch\.fx cannot trace '1' \(Limited\)"):
        joslim.slimmable(network(), IMAGE)
    joslim.tracing.register(Limited, follow_limited)
    slimmable = joslim.slimmable(network(), IMAGE, min_width=0.25)
    assert [group.frozen for group in slimmable.space.groups] == [None, None]
    assert slimmable.extract((3, 8))[1].scale.shape == (3, 1, 1)
    slimmable.verify()


def test_a_rule_that_gives_up_freezes_and_says_why():
    def give_up(walk: Walk, node: fx.Node) -> TensorValue:
        raise Unfollowed("mixes them")

    joslim.tracing.register("cumsum", give_up)
    joslim.tracing.register(torch.cumsum, give_up)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), Summed(), nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(TracingError, match=r"0: node 'cumsum' \(cumsum\) mixes them"):
        joslim.slimmable(model, IMAGE)


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1).cumsum(1)


def test_a_rule_that_forgets_a_weight_is_found_before_the_network_is_returned():
    joslim.tracing.register(Limited, lambda walk, node: TensorValue(walk.axes(node.args[0])))
    with pytest.raises(TracingError, match=r"does not run at widths"):
        joslim.slimmable(network(), IMAGE, min_width=0.25)


@pytest.mark.parametrize("operation", [3, nn.ReLU(), int])
def test_what_can_have_no_rule_is_named(operation: object):
    with pytest.raises(TracingError, match=r"a rule is for a type of modules, a function or"):
        joslim.tracing.register(operation, follow_limited)
