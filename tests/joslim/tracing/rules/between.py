"""A small network with anything between two convolutions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import joslim


class Between(nn.Module):
    """Two convolutions, of 12 and 24 channels, with a function of the layer's own between them."""

    def __init__(self, between: Callable[..., Tensor], *layers: nn.Module, inputs: int = 12):
        super().__init__()
        self.before = nn.Conv2d(3, 12, 3)
        self.layers = nn.ModuleList(layers)
        self.between = between
        self.after = nn.Conv2d(inputs, 24, 1)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self, self.before(x))
        return self.head(self.after(x).relu().mean((2, 3)))


def build(*args: object, **kwargs: int) -> joslim.SlimmableNetwork:
    """`Between` as a slimmable network."""
    torch.manual_seed(0)
    model = Between(*args, **kwargs)
    return joslim.slimmable(model, torch.randn(2, 3, 6, 6), min_width=0.25)
