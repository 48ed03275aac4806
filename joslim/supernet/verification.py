"""Proof that a trace is right, by running the network: orders, slices and gradients."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from joslim.errors import TracingError
from joslim.supernet.batch_norm import recalibrate_batchnorm
from joslim.supernet.channel_order import reordered
from joslim.supernet.slicing import take
from joslim.tracing import NetworkTrace
from joslim.widths import Widths, WidthSpace

NUM_WIDTHS = 3
"""Random width configurations whose slices are checked."""

TOLERANCE = 1e-9
"""Largest difference between equal results, relative to their largest number; in float64."""


class Slimmable(Protocol):
    """What verification needs of a slimmable network."""

    model: nn.Module
    trace: NetworkTrace
    space: WidthSpace

    def __call__(self, x: Tensor, widths: Widths | None = None) -> Tensor:
        """The outputs at ``widths``."""

    def extract(self, widths: Widths) -> nn.Module:
        """The dense network at ``widths``."""

    def call_with(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        """The outputs with other tensors in place of those of the same names."""


def verify(network: Slimmable) -> None:
    """Check what slimmable networks promise, on a float64 copy with random images.

    Channels of a group may change places in the full network; every slice is its extracted dense
    network, in outputs and in gradients, at the smallest and at some random widths.

    Raises:
        TracingError: Naming the group that breaks the promise.
    """
    generator = torch.Generator().manual_seed(0)
    twin = _distinct_copy(network, generator)
    device = next(twin.model.parameters()).device
    shape = (4, *network.trace.input_shape)
    images = torch.randn(shape, generator=generator, dtype=torch.float64).to(device)
    recalibrate_batchnorm([twin.model], [images])
    _verify_orders(twin, images, generator)
    for widths in [
        network.space.smallest,
        *(network.space.random(generator) for _ in range(NUM_WIDTHS)),
    ]:
        _verify_slices(twin, images, widths)


def _distinct_copy(network: Slimmable, generator: torch.Generator) -> Slimmable:
    """A copy in which no two channels are alike, as those of a fresh batch norm would be."""
    model = copy.deepcopy(network.model).double().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
                noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor += (noise / 2 - 0.25).to(tensor.device)
    model.requires_grad_(True)
    kind: Any = type(network)
    twin: Slimmable = kind(model, network.trace).eval()
    return twin


@torch.no_grad()
def _verify_orders(twin: Slimmable, images: Tensor, generator: torch.Generator) -> None:
    expected = twin.model(images)
    orders = {
        index: torch.randperm(group.full, generator=generator)
        for index, group in enumerate(twin.space.groups)
        if group.frozen is None
    }

    def same(chosen: dict[int, Tensor]) -> bool:
        tensors = reordered(twin.trace, twin.model, chosen)
        return _equal(twin.call_with(tensors, images), expected)

    if not same(orders):
        wrong = [i for i, order in orders.items() if not same({i: order})]
        raise TracingError(
            f"{_name(twin, wrong)} must keep the order of its channels: the full network gives "
            "other outputs when they change places"
        )


def _verify_slices(twin: Slimmable, images: Tensor, widths: Widths) -> None:
    problem = _slice_problem(twin, images, widths)
    if problem:
        wrong = [
            i
            for i, group in enumerate(twin.space.groups)
            if group.smallest < group.full
            and _slice_problem(twin, images, _only(twin, i, group.smallest))
        ]
        raise TracingError(f"{_name(twin, wrong)} {problem}, at widths {widths}")


def _only(twin: Slimmable, index: int, width: int) -> Widths:
    full = twin.space.full
    return (*full[:index], width, *full[index + 1 :])


def _slice_problem(twin: Slimmable, images: Tensor, widths: Widths) -> str | None:
    dense = twin.extract(widths)
    try:
        outputs, expected = twin(images, widths), dense(images)
    except RuntimeError as error:
        return f"does not run when narrow ({error})"
    if not _equal(outputs, expected):
        return "gives other outputs than its extracted network"
    gradients = _gradients(twin.model, outputs)
    expected_gradients = _gradients(dense, expected)
    # Of all, as a gradient that is zero in theory consists of rounding errors.
    largest = max(gradient.abs().max().item() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        axes = twin.trace.tensors.get(name, ())
        inside = take(gradients[name], axes, widths)
        outside = gradients[name].abs().sum() - inside.abs().sum()
        is_all = outside <= TOLERANCE * largest * gradients[name].numel()
        if not (is_all and _equal(inside, gradient, largest)):
            return f"gives another gradient of '{name}' than its extracted network"
    return None


def _gradients(model: nn.Module, outputs: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        outputs.square().mean(), list(parameters.values()), materialize_grads=True
    )
    return dict(zip(parameters, gradients, strict=True))


def _equal(found: Tensor, expected: Tensor, largest: float | None = None) -> bool:
    scale = expected.abs().max().item() if largest is None else largest
    same_shape = found.shape == expected.shape
    return same_shape and torch.allclose(found, expected, rtol=0, atol=TOLERANCE * scale)


def _name(twin: Slimmable, wrong: list[int]) -> str:
    names = [f"'{twin.space.groups[index].name}'" for index in wrong]
    return f"channel group {names[0]}" if names else "the combination of channel groups"
