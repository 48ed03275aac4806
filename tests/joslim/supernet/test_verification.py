"""A wrong trace is found, and the group at fault is named."""

import dataclasses

import pytest
import torch
from torch import nn

import joslim
from joslim.errors import TracingError
from joslim.tracing.rules import pointwise
from joslim.tracing.rules import table as rules


class Accumulating(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 1, groups=8)
        self.before = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.before(self.grouped(self.stem(x)).relu())
        return self.head(torch.cumsum(x, 1).relu().mean((2, 3)))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    monkeypatch.setitem(rules.FUNCTIONS, torch.cumsum, pointwise.elementwise)
    return joslim.slimmable(Accumulating(), torch.randn(2, 3, 4, 4))


def test_a_rule_that_lets_ordered_channels_move(network):
    with pytest.raises(
        TracingError, match=r"channel group 'before' must keep the order of its channels"
    ):
        network.verify()


def test_a_right_rule_passes(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.delitem(rules.FUNCTIONS, torch.cumsum, raising=False)
    joslim.slimmable(Accumulating(), torch.randn(2, 3, 4, 4)).verify()


def test_a_forgotten_attribute(network):
    del network.trace.attributes["grouped", "groups"]
    tensors = {n: a for n, a in network.trace.tensors.items() if not n.startswith("head")}
    groups = tuple(
        dataclasses.replace(g, frozen="not looked at", smallest=g.full) if g.name == "before" else g
        for g in network.trace.groups
    )
    network.trace = dataclasses.replace(network.trace, tensors=tensors, groups=groups)
    network.space = dataclasses.replace(network.space, groups=groups)
    with pytest.raises(TracingError, match=r"channel group 'stem' does not run when narrow"):
        network.verify()


def test_a_forgotten_tensor(network):
    del network.trace.tensors["stem.bias"]
    with pytest.raises(TracingError, match=r"channel group 'stem' must keep the order"):
        network.verify()
