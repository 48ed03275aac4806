"""A wrong trace is found, and the group at fault is named."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import joslim
from joslim.errors import TracingError
from joslim.supernet.substitution import Substitution
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


class Checkpointed(nn.Module):
    """A stream of 16 channels with a block that is run again for its gradients."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.block = nn.Sequential(nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.Conv2d(32, 16, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        if self.training:
            x = x + checkpoint(self.block, x, use_reentrant=False)
        else:
            x = x + self.block(x)
        return self.head(x.mean((2, 3)))


class Noisy(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 5, 1)
        self.between = between

    def forward(self, x):
        x = self.before(x)
        return self.after(self.between(x) if self.training else x).mean((2, 3))


def test_gradients_of_other_weights_are_found_in_train_mode(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    monkeypatch.setattr(Substitution, "_stand_in_backward", lambda *_: None)
    with pytest.raises(TracingError, match=r"does not run when narrow .* in train mode"):
        joslim.slimmable(Checkpointed(), torch.randn(2, 3, 16, 16))


def test_statistics_that_narrow_passes_change_are_found(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.Conv2d(16, 5, 1), nn.Flatten(), nn.Linear(80, 5)
    )
    network = joslim.slimmable(model, torch.randn(2, 3, 4, 4))
    kept = Substitution.__init__

    def forgetful(self, model):
        kept(self, model)
        self.buffers = tuple(name for name in self.buffers if "num_batches" not in name)

    monkeypatch.setattr(Substitution, "__init__", forgetful)
    with pytest.raises(TracingError, match=r"changes '1\.num_batches_tracked' of the full network"):
        network.verify()


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (lambda x: x + torch.randn(16, 1, 1), "does not run when narrow"),
        (lambda x: x * torch.arange(16, device=x.device).view(-1, 1, 1)[: x.shape[1]], None),
        (lambda x: F.dropout(x, 0.5), None),
    ],
)
def test_what_a_network_does_in_train_mode_only_is_run(between, message: str | None):
    torch.manual_seed(0)
    if message is None:
        joslim.slimmable(Noisy(between), torch.randn(2, 3, 4, 4)).verify()
        return
    with pytest.raises(TracingError, match=f"channel group 'before' {message} .* in train mode"):
        joslim.slimmable(Noisy(between), torch.randn(2, 3, 4, 4))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 1), nn.Linear(16, 5)

    def forward(self, x):
        y = self.head(self.body(x).mean((2, 3)))
        return (y, y) if self.training else y


def test_several_outputs_in_train_mode_are_named():
    with pytest.raises(TracingError, match="Heads gives tuple in train mode; expected one tensor"):
        joslim.slimmable(Heads(), torch.randn(2, 3, 4, 4))


class Float32Norm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels))

    def forward(self, x):
        y = x.float()
        return (self.weight * y * torch.rsqrt(y.square().mean(-1, True) + 1e-6)).to(x.dtype)


class Patches(nn.Module):
    """A norm in float32 whatever it is given, and places that take no gradient."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 24, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 16, 24), requires_grad=False)
        self.norm, self.up, self.head = Float32Norm(24), nn.Linear(24, 48), nn.Linear(48, 5)

    def forward(self, x):
        x = self.cut(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.up(self.norm(x)).relu().mean(1))


def test_right_networks_are_not_accused():
    torch.manual_seed(0)
    network = joslim.slimmable(Patches(), torch.randn(2, 3, 16, 16))
    network.verify()
    assert not network.model.place.requires_grad


def test_sorting_that_would_change_the_outputs_is_refused(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(TracingError, match=r"channel group 'before' must keep the order"):
        network.sort_channels_()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
