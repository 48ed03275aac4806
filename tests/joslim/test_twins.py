"""Twins share tensors, not code."""

import torch
from torch import nn

from joslim.twins import twin


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def doubled(module: nn.Module) -> type[nn.Module] | None:
    return Doubled if type(module) is nn.Linear else None


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3))


def test_a_twin_runs_other_code_on_the_same_tensors():
    original = model().eval()
    other = twin(original, doubled)
    x = torch.randn(4, 3)
    torch.testing.assert_close(other(x), 2 * original(x))
    assert type(original[0]) is nn.Linear
    shared = [*original.parameters(), *original.buffers()]
    assert all(a is b for a, b in zip(shared, [*other.parameters(), *other.buffers()], strict=True))
    with torch.no_grad():
        original[0].weight.zero_()
    assert other(x).abs().max() < 1e-6
    other.train()(x)
    assert not original.training
    assert original[1].num_batches_tracked == 1


def test_without_a_replacement_there_is_no_twin():
    original = model()
    assert twin(original, lambda _: None) is original


def test_a_module_that_stands_in_two_places_is_replaced_once():
    layer = nn.Linear(3, 3)
    other = twin(nn.ModuleList([layer, nn.ModuleList([layer])]), doubled)
    assert other[0] is other[1][0]
    assert type(other[0]) is Doubled


def test_a_root_can_be_replaced():
    assert type(twin(nn.Linear(3, 3), doubled)) is Doubled


class Watched(nn.Module):
    """A hook bound to the parent, a list of layers, and a buffer that is made anew."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.layer.register_forward_hook(self.note)
        self.layers = [self.layer]
        self.register_buffer("count", torch.zeros(()))

    def note(self, *_: object) -> None:
        self.count = self.count + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](x)


def test_references_lead_to_the_twins_own_modules():
    original = Watched()
    other = twin(original, doubled)
    assert type(other.layer) is Doubled
    assert other.layers[0] is other.layer
    (hook,) = other.layer._forward_hooks.values()
    assert hook.__self__ is other


def test_a_buffer_that_is_made_anew_is_new_in_both():
    original = Watched()
    twin(original, doubled)(torch.zeros(1, 3))
    assert original.count == 1
