"""Proof that a trace is right, by running the network: orders, slices and gradients."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from joslim.errors import TracingError
from joslim.modes import in_mode
from joslim.supernet.batch_norm import recalibrate_batchnorm
from joslim.supernet.channel_order import reordered
from joslim.supernet.slicing import take
from joslim.tracing import NetworkTrace
from joslim.widths import Widths, WidthSpace

NUM_WIDTHS = 3
"""Random width configurations whose slices are checked."""

QUICK_TOLERANCE = 1e-3
"""Largest difference, relative to the largest number, that a first look lets pass."""

SEED = 0
"""Of what a network draws at random in train mode, such as dropout: the same for both sides."""


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
    network, in outputs and in gradients: in eval mode at the smallest and at some random widths, in
    train mode at the smallest. Two results are equal if they differ by no more than the square root
    of the rounding error, relative to the largest number; that of the coarsest type in which the
    network computes, as some cast to float32 whatever they are given.

    Raises:
        TracingError: Naming the group that breaks the promise.
    """
    generator = torch.Generator().manual_seed(0)
    proof = _Proof.precise(network, 4, generator)
    recalibrate_batchnorm([proof.twin.model], [proof.images])
    orders = {
        index: torch.randperm(group.full, generator=generator)
        for index, group in enumerate(network.space.groups)
        if group.frozen is None
    }
    proof.check_orders(orders)
    for widths in [
        network.space.smallest,
        *(network.space.random(generator) for _ in range(NUM_WIDTHS)),
    ]:
        proof.check_slices(widths)
    proof.check_slices(network.space.smallest, training=True)


def check_training(network: Slimmable) -> None:
    """Check one step of the smallest sub-network in train mode against its extracted network.

    What a network does in train mode only, as noise, auxiliary branches or activations that are
    computed again for the gradients, is in no graph of its evaluation. The network itself takes the
    step; only where that differs by more than rounding might do, a float64 copy decides.

    Raises:
        TracingError: Saying what differs.
    """
    images = torch.randn(2, *network.trace.input_shape, generator=torch.Generator().manual_seed(0))
    quick = _Proof(network, images.to(next(network.model.parameters())), QUICK_TOLERANCE)
    if quick.problem(network.space.smallest, training=True):
        proof = _Proof.precise(network, 2, torch.Generator().manual_seed(0))
        proof.check_slices(network.space.smallest, training=True)


def check_orders(network: Slimmable, orders: Mapping[int, Tensor]) -> None:
    """Check that the full network's outputs stay when channels change places.

    Args:
        network: Left as it is.
        orders: An order for each index of a group whose channels change places.

    Raises:
        TracingError: Naming a group whose channels must keep their order.
    """
    _Proof.precise(network, 2, torch.Generator().manual_seed(0)).check_orders(orders)


@dataclass(frozen=True)
class _Proof:
    """Runs a network, or a copy of it, against what it promises.

    Attributes:
        images: What it runs on.
        tolerance: Largest difference of equal results, relative to the largest number.
    """

    twin: Slimmable
    images: Tensor
    tolerance: float

    @classmethod
    def precise(cls, network: Slimmable, num_images: int, generator: torch.Generator) -> "_Proof":
        """With a copy, in which no two channels are alike, and random images."""
        twin = _distinct_copy(network, torch.float64, generator)
        shape = (num_images, *network.trace.input_shape)
        images = torch.randn(shape, generator=generator, dtype=torch.float64)
        images = images.to(next(twin.model.parameters()).device)
        if not _runs(twin, images):  # as some networks make float32 tensors on their way
            twin = _distinct_copy(network, torch.float32, generator)
            images = images.float()
        with torch.no_grad(), _Coarsest() as coarsest:
            twin.model(images)
        return cls(twin, images, coarsest.eps**0.5)

    @torch.no_grad()
    def check_orders(self, orders: Mapping[int, Tensor]) -> None:
        twin = self.twin
        expected = twin.model(self.images)

        def same(chosen: Mapping[int, Tensor]) -> bool:
            tensors = reordered(twin.trace, twin.model, chosen)
            return self._equal(twin.call_with(tensors, self.images), expected)

        if not same(orders):
            wrong = [i for i, order in orders.items() if not same({i: order})]
            raise TracingError(
                f"{_name(twin, wrong)} must keep the order of its channels: the full network gives "
                "other outputs when they change places"
            )

    def check_slices(self, widths: Widths, *, training: bool = False) -> None:
        problem = self.problem(widths, training)
        if problem:
            space = self.twin.space
            wrong = [
                i
                for i, group in enumerate(space.groups)
                if group.smallest < group.full
                and self.problem((*space.full[:i], group.smallest, *space.full[i + 1 :]), training)
            ]
            mode = " in train mode" if training else ""
            raise TracingError(f"{_name(self.twin, wrong)} {problem}{mode}, at widths {widths}")

    def problem(self, widths: Widths, training: bool) -> str | None:
        twin: Any = self.twin
        dense = twin.extract(widths)
        noted = {name: buffer.clone() for name, buffer in twin.model.named_buffers()}
        try:
            with in_mode(twin, training):
                outputs, gradients = self._step(twin, twin.model, widths)
            with in_mode(dense, training):
                expected, expected_gradients = self._step(dense, dense)
        except TracingError:
            raise
        except Exception as error:
            return f"does not run when narrow ({error})"
        if not self._equal(outputs, expected):
            return "gives other outputs than its extracted network"
        # Of all, as a gradient that is zero in theory consists of rounding errors.
        largest = max(gradient.abs().max().item() for gradient in expected_gradients.values())
        for name, gradient in expected_gradients.items():
            axes = twin.trace.tensors.get(name, ())
            inside = take(gradients[name], axes, widths)
            outside = gradients[name].abs().sum() - inside.abs().sum()
            is_all = outside <= self.tolerance * largest * gradients[name].numel()
            if not (is_all and self._equal(inside, gradient, largest)):
                return f"gives another gradient of '{name}' than its extracted network"
        changed = [n for n, buffer in twin.model.named_buffers() if not buffer.equal(noted[n])]
        return f"changes '{changed[0]}' of the full network when narrow" if changed else None

    def _step(
        self, run: Any, model: nn.Module, *widths: Widths
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs, and the gradients of ``model``, of which some may be zero."""
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        earlier = [parameter.grad for parameter in parameters.values()]
        model.zero_grad()
        try:
            devices = [self.images.device] if self.images.is_cuda else []
            with torch.random.fork_rng(devices), torch.enable_grad():
                torch.manual_seed(SEED)
                outputs = run(self.images, *widths)
                if not isinstance(outputs, Tensor):
                    raise TracingError(
                        f"{type(model).__name__} gives {type(outputs).__name__} in train mode; "
                        "expected one tensor, the logits"
                    )
                outputs.square().mean().backward()
            gradients = {
                name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for name, parameter in parameters.items()
            }
            return outputs.detach(), gradients
        finally:
            for parameter, gradient in zip(parameters.values(), earlier, strict=True):
                parameter.grad = gradient

    def _equal(self, found: Tensor, expected: Tensor, largest: float | None = None) -> bool:
        scale = expected.abs().max().item() if largest is None else largest
        same_shape = found.shape == expected.shape
        return same_shape and torch.allclose(found, expected, rtol=0, atol=self.tolerance * scale)


class _Coarsest(TorchDispatchMode):
    """Notes the rounding error of the coarsest floating-point type in which anything is computed.

    Attributes:
        eps: The difference between 1 and the next number.
    """

    eps = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                self.eps = max(self.eps, torch.finfo(leaf.dtype).eps)
        return result


def _distinct_copy(network: Slimmable, dtype: torch.dtype, generator: torch.Generator) -> Slimmable:
    """A copy in which no two channels are alike, as those of a fresh batch norm would be."""
    model = copy.deepcopy(network.model).to(dtype).eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() == tensor.max():
                noise = torch.rand(tensor.shape, generator=generator, dtype=dtype)
                tensor += (noise / 2 - 0.25).to(tensor.device)
    model.requires_grad_(True)
    kind: Any = type(network)
    twin: Slimmable = kind(model, network.trace).eval()
    return twin


@torch.no_grad()
def _runs(twin: Slimmable, images: Tensor) -> bool:
    try:
        twin.model(images)
    except RuntimeError:
        return False
    return True


def _name(twin: Slimmable, wrong: list[int]) -> str:
    names = [f"'{twin.space.groups[index].name}'" for index in wrong]
    return f"channel group {names[0]}" if names else "the combination of channel groups"
