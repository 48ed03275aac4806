"""Slimmable networks: a width configuration is a set of views on a stock `nn.Module`.

No layer is replaced. Running at given widths calls the unmodified module with its parameters sliced
to the first channels of each group, so gradients of every sub-network flow into shared weights.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from joslim import tracing
from joslim.errors import TracingError
from joslim.tracing import Axis, NetworkTrace, axis_size
from joslim.widths import Widths, WidthSpace


def slimmable(
    model: nn.Module, example_input: Tensor, *, min_width: float = 0.42, divisor: int | None = None
) -> "SlimmableNetwork":
    """Make a stock module run at any width configuration.

    Args:
        model: Any module that `torch.fx` can trace. It is wrapped, not copied or changed.
        example_input: A batch, ``(batch, channels, height, width)``, of the size to be served.
        min_width: Smallest width multiplier that the search may use, in (0, 1].
        divisor: The search uses multiples of this many channels; None decides for each group: a
            power of two, at most 8, that leaves the group at least 16 steps.

    Raises:
        TracingError: If the module cannot be traced, no channel group can move, or the smallest
            sub-network does not run.
    """
    network = SlimmableNetwork(
        model, tracing.trace(model, example_input, min_width=min_width, divisor=divisor)
    )
    _check(network, example_input)
    return network


class SlimmableNetwork(nn.Module):
    """All sub-networks of one stock module; made by `slimmable`.

    Attributes:
        model: The stock module; its parameters are the shared weights.
        space: The channel groups and their allowed widths.
        trace: What the graph walk found, for costs and slicing.
    """

    def __init__(self, model: nn.Module, trace: NetworkTrace) -> None:
        super().__init__()
        self.model = model
        self.trace = trace
        self.space = WidthSpace(trace.groups)

    def forward(self, x: Tensor, widths: Widths | None = None) -> Tensor:
        """Run at ``widths`` (1..full per group); the full network by default.

        Batch norm: only the full network updates the running statistics. A sub-network uses the
        full network's first channels in eval mode; extract it and recalibrate before measuring it.
        """
        if widths is None or self.space.check(widths) == self.space.full:
            return self.model(x)
        with self._attributes_at(widths):
            return functional_call(self.model, self._slices(widths), (x,))

    def extract(self, widths: Widths) -> nn.Module:
        """A dense module of the stock type that owns its weights and gives the same outputs."""
        self.space.check(widths)
        model = copy.deepcopy(self.model)
        model.zero_grad(set_to_none=True)
        for name, tensor in self._slices(widths).items():
            path, _, leaf = name.rpartition(".")
            owned = tensor.detach().clone(memory_format=torch.contiguous_format)
            module = model.get_submodule(path)
            is_parameter = leaf in module._parameters
            setattr(module, leaf, nn.Parameter(owned) if is_parameter else owned)
        for (path, attribute), axis in self.trace.attributes.items():
            setattr(model.get_submodule(path), attribute, axis_size(axis, widths))
        return model

    def _slices(self, widths: Widths) -> dict[str, Tensor]:
        slices = {}
        for name, axes in self.trace.tensors.items():
            path, _, leaf = name.rpartition(".")
            tensor = getattr(self.model.get_submodule(path), leaf)
            part = take(tensor, axes, widths)
            is_buffer = not isinstance(tensor, nn.Parameter)
            slices[name] = part.clone() if is_buffer and self.training else part
        return slices

    @contextmanager
    def _attributes_at(self, widths: Widths) -> Iterator[None]:
        """Set what is neither parameter nor buffer and yet decides how a layer computes."""
        changed = []
        try:
            for (path, attribute), axis in self.trace.attributes.items():
                if attribute == "groups":
                    module = self.model.get_submodule(path)
                    changed.append((module, attribute, getattr(module, attribute)))
                    setattr(module, attribute, axis_size(axis, widths))
            yield
        finally:
            for module, attribute, value in changed:
                setattr(module, attribute, value)


def take(tensor: Tensor, axes: tuple[Axis, ...], widths: Widths) -> Tensor:
    """The slice of ``tensor`` that a sub-network uses: the first channels of every part.

    A view, unless an axis has several parts (after a concatenation), which must be joined.
    """
    for dim, axis in enumerate(axes):
        if axis_size(axis, widths) == tensor.shape[dim]:
            continue
        pieces, start = [], 0
        for part in axis:
            pieces.append(tensor.narrow(dim, start, part.size(widths)))
            start += part.full
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)
    return tensor


@torch.no_grad()
def _check(network: SlimmableNetwork, example_input: Tensor) -> None:
    was_training = network.training
    network.eval()
    try:
        full = network(example_input)
        smallest = network(example_input, network.space.smallest)
    except RuntimeError as error:
        raise TracingError(
            f"{type(network.model).__name__} does not run at its smallest widths "
            f"{network.space.smallest}: {error}"
        ) from error
    finally:
        network.train(was_training)
    if full.shape != smallest.shape:
        raise TracingError(
            f"{type(network.model).__name__} gives {tuple(smallest.shape)} at its smallest widths, "
            f"but {tuple(full.shape)} in full"
        )
