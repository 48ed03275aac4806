"""Networks that come wrapped, compiled or masked are refused by what they are."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

import joslim
from joslim.errors import TracingError

IMAGE = torch.zeros(2, 3, 8, 8)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 5),
    )  # fmt: skip


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    """A network with its second convolution changed."""
    model = network()
    change(model[1])
    return model


def compiled_in_place() -> nn.Module:
    model = network()
    model.compile()
    return model


class Outputs(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.network, self.make = network(), make

    def forward(self, x: torch.Tensor) -> object:
        return self.make(self.network(x))


REFUSED = {
    "a mask": (
        lambda: changed(lambda conv: prune.l1_unstructured(conv, "weight", amount=0.5)),
        "'1' (Conv2d) computes its weights anew in each pass, by a mask of torch.nn.utils.prune; "
        "make them plain parameters first: prune.remove(module, name)",
    ),
    "a weight norm by hooks": (
        lambda: changed(weight_norm), "'1' (Conv2d) computes its weights anew in each pass",
    ),
    "a spectral norm by hooks": (
        lambda: changed(spectral_norm), "'1' (Conv2d) computes its weights anew in each pass",
    ),
    "for several GPUs": (
        lambda: nn.DataParallel(network()),
        "the network is in DataParallel; pass the module inside of it (.module)",
    ),
    "compiled": (lambda: torch.compile(network()), "the network is compiled for one width"),
    "compiled in place": (compiled_in_place, "the network is compiled for one width"),
    "scripted": (
        lambda: torch.jit.trace(network(), IMAGE), "whose code cannot be traced; pass the module",
    ),
    "a function": (
        lambda: network().forward, "the network is a method; expected a torch.nn.Module",
    ),
    "a dict": (
        lambda: Outputs(lambda x: {"logits": x, "other": x}),
        "Outputs gives a dict of 'logits', 'other'; expected one tensor of logits",
    ),
    "a tuple": (lambda: Outputs(lambda x: (x, x)), "Outputs gives a sequence of 2; expected one"),
    "a list": (lambda: Outputs(lambda x: [x]), "Outputs gives a sequence of 1; expected one"),
    "a number": (lambda: Outputs(lambda x: x.shape[0]), "Outputs gives a value of type int"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is")
@pytest.mark.parametrize("name", REFUSED)
def test_what_it_is_and_what_to_pass_is_said(name: str):
    build, message = REFUSED[name]
    with pytest.raises(TracingError, match=re.escape(message)):
        joslim.slimmable(build(), IMAGE)
