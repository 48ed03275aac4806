"""Activations that are computed again find the weights that they were computed with."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import joslim
from joslim.widths import Widths


class Block(nn.Module):
    """Reads two streams side by side, so that its first weight is gathered when narrow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.first, self.second = nn.Conv2d(2 * channels, 24, 1), nn.Conv2d(24, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.second(self.first(torch.cat([self.norm(x), y], 1)).relu())


class Network(nn.Module):
    """Two blocks, which are run again for their gradients if `how` says in which way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 16, 2, 2), nn.Conv2d(3, 16, 2, 2)
        self.blocks = nn.ModuleList([Block(16), Block(16)])
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(16, 5)
        self.how: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        y, x = self.side(x), self.stem(x)
        for block in self.blocks:
            if self.how is None:
                x = x + self.drop(block(x, y))
            else:
                again = checkpoint(block, x, y, use_reentrant=self.how == "reentrant")
                x = x + self.drop(again)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def network() -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    return joslim.slimmable(Network(), torch.randn(2, 3, 8, 8), min_width=0.25)


def gradients(
    network: joslim.SlimmableNetwork, how: str | None, steps: Sequence[Sequence[Widths]]
) -> dict[str, Tensor]:
    """Of all ``steps``, each a backward pass of the sum of losses at some widths."""
    network.model.how = how
    network.zero_grad()
    torch.manual_seed(1)
    images = torch.randn(4, 3, 8, 8)
    for step in steps:
        torch.stack([network(images, widths).square().sum() for widths in step]).sum().backward()
    return {n: p.grad.clone() for n, p in network.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("how", ["reentrant", "not reentrant"])
@pytest.mark.parametrize("together", [False, True])
def test_gradients_are_those_without_checkpointing(
    network: joslim.SlimmableNetwork, how: str, together: bool
):
    space = network.space
    chosen = [space.full, space.smallest, space.random(torch.Generator().manual_seed(0))]
    steps = [chosen] if together else [[widths] for widths in chosen]
    expected, found = gradients(network, None, steps), gradients(network, how, steps)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


class _Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        raise MemoryError("no room for a gradient")


def test_a_backward_pass_that_breaks_off_leaves_the_network_whole(
    network: joslim.SlimmableNetwork,
):
    images = torch.randn(2, 3, 8, 8)
    before = network.eval()(images)
    with torch.enable_grad(), pytest.raises(MemoryError):
        network(_Broken.apply(images.requires_grad_()), network.space.smallest).sum().backward()
    assert network.extract(network.space.full).stem.weight.shape[0] == 16
    assert torch.equal(network(images), before)


def test_narrow_passes_leave_all_buffers_as_they_are():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16, momentum=None), nn.Conv2d(16, 8, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    network = joslim.slimmable(model, torch.randn(2, 3, 4, 4)).train()
    network(torch.randn(2, 3, 4, 4))
    noted = {name: buffer.clone() for name, buffer in model.named_buffers()}
    network(torch.randn(2, 3, 4, 4), network.space.smallest)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, noted[name]), name
    assert model[1].num_batches_tracked == 1
