"""Slimmable networks: a width configuration is a set of views on a stock `nn.Module`.

Running at given widths calls the module with its parameters sliced to the first channels of each
group, so gradients of every sub-network flow into shared weights. No layer is replaced, but for
attention, whose stock code knows one number of heads only (`joslim.tracing.rewrites`).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from joslim import tracing
from joslim.errors import TracingError
from joslim.modes import in_mode
from joslim.supernet import channel_order, verification
from joslim.supernet.accepted import check_accepted
from joslim.supernet.slicing import take, tensor_at
from joslim.supernet.substitution import Substitution
from joslim.tracing import NetworkTrace, axis_size
from joslim.tracing.rewrites import make_traceable
from joslim.widths import Widths, WidthSpace


def slimmable(
    model: nn.Module,
    example_input: Tensor,
    *,
    min_width: float = 0.42,
    divisor: int | None = None,
    leaves: tuple[type[nn.Module], ...] = (),
) -> "SlimmableNetwork":
    """Make a stock module run at any width configuration.

    Args:
        model: Any module that `torch.fx` can trace. It is not changed, and its parameters and
            buffers are the network's; modules that `joslim.tracing.rewrites` replaces stand in a
            copy.
        example_input: A batch, ``(batch, channels, height, width)``, of the size to be served.
        min_width: Smallest width multiplier that the search may use, in (0, 1].
        divisor: The search uses multiples of this many channels; None decides for each group: a
            power of two, at most 8, that leaves the group at least 16 steps.
        leaves: Modules that are not looked into, since `torch.fx` cannot trace them or should not:
            their widths, and those of the layers around them, stay as they are.

    Raises:
        TracingError: If the module cannot be traced, no channel group can move, or the smallest
            sub-network does not run.
    """
    check_accepted(model)
    model = make_traceable(model, leaves)
    trace = tracing.trace(model, example_input, min_width=min_width, divisor=divisor, leaves=leaves)
    network = SlimmableNetwork(model, trace)
    _check(network, example_input)
    return network


READ_BY_FORWARD = {"groups", "num_groups", "normalized_shape"}
"""What a layer reads about its channels as it runs; all else only describes an extracted layer."""


class SlimmableNetwork(nn.Module):
    """All sub-networks of one stock module; made by `slimmable`.

    Attributes:
        model: The stock module, or its copy with attention replaced; its parameters are the shared
            weights.
        space: The channel groups and their allowed widths.
        trace: What the graph walk found, for costs and slicing.
    """

    def __init__(self, model: nn.Module, trace: NetworkTrace) -> None:
        super().__init__()
        self.model = model
        self.trace = trace
        self.space = WidthSpace(trace.groups)
        self._read_by_forward = [
            (path, name)
            for path, name in trace.attributes
            if (path, name) in trace.read
            or name in READ_BY_FORWARD
            or isinstance(model.get_submodule(path), _InstanceNorm)  # compares its num_features
        ]
        self._substitution = Substitution(model)

    def forward(self, x: Tensor, widths: Widths | None = None) -> Tensor:
        """Run at ``widths`` (1..full per group); the full network by default.

        Batch norm: only the full network updates the running statistics. A sub-network uses the
        full network's first channels in eval mode; extract it and recalibrate before measuring it.
        """
        if widths is None or (widths := self.space.check(widths)) == self.space.full:
            return self.call_with({}, x)
        return self._sliced(x, widths)

    def extract(self, widths: Widths) -> nn.Module:
        """A dense module, of the type of `model`, with weights of its own and the same outputs."""
        widths = self.space.check(widths)
        self._substitution.end()
        model = copy.deepcopy(self.model)
        model.zero_grad(set_to_none=True)
        for name, part in self._slices(widths).items():
            owned = part.detach().clone(memory_format=torch.contiguous_format)
            tensor_at(model, name).data = owned
        for (path, attribute), value in self.attributes_at(widths).items():
            setattr(model.get_submodule(path), attribute, value)
        return model

    def attributes_at(self, widths: Widths) -> dict[tuple[str, str], int | Sequence[int]]:
        """What layers of the extracted network say about their channels: by path and name."""
        return {key: self._attribute(*key, widths) for key in self.trace.attributes}

    def sort_channels_(self) -> None:
        """Put each group's most important channels first; the full network's outputs stay.

        Prefixes of a pretrained network are its best channels then. Sort before training: what an
        optimiser remembers of the weights does not follow.

        Raises:
            TracingError: If the outputs would change; nothing is sorted then.
        """
        orders = channel_order.best_first(self.trace, self.model)
        verification.check_orders(self, orders)
        channel_order.reorder_(self.trace, self.model, orders)

    def verify(self) -> None:
        """Prove by running that slices, orders and gradients are right; takes a few seconds.

        Raises:
            TracingError: Naming the channel group at fault.
        """
        verification.verify(self)

    def _sliced(self, x: Tensor, widths: Widths) -> Tensor:
        self._substitution.end()
        attributes = {key: self._attribute(*key, widths) for key in self._read_by_forward}
        outputs: Tensor = self._substitution.run(x, self._slices(widths), attributes)
        return outputs

    def call_with(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        """Run the model with ``tensors`` in place of those of its own parameters and buffers.

        `torch.func.functional_call` does the same, but looks up every name at every call, and
        forgets the tensors before a backward pass that computes activations again.
        """
        outputs: Tensor = self._substitution.run(x, tensors, {})
        return outputs

    def _slices(self, widths: Widths) -> dict[str, Tensor]:
        own = self._substitution.own
        slices = {name: take(own(name), axes, widths) for name, axes in self.trace.tensors.items()}
        if self.training:  # what layers note of a batch is of the full network alone
            for name in self._substitution.buffers:
                slices[name] = slices.get(name, own(name)).clone()
        return slices

    def _attribute(self, path: str, attribute: str, widths: Widths) -> int | Sequence[int]:
        axes = self.trace.attributes[path, attribute]
        sizes = tuple(axis_size(axis, widths) for axis in axes)
        full = getattr(self.model.get_submodule(path), attribute)
        return type(full)(sizes) if isinstance(full, tuple | list) else sizes[0]


def _check(network: SlimmableNetwork, example_input: Tensor) -> None:
    """Run at some widths, and take a step at the smallest; on the meta device, shapes only."""
    kind, space = type(network.model).__name__, network.space
    generator = torch.Generator().manual_seed(0)
    widths = space.full
    try:
        with torch.no_grad(), in_mode(network, training=False):
            full = network.model(example_input)
            if not full.is_meta and not torch.equal(network._sliced(example_input, widths), full):
                raise TracingError(f"{kind} gives other outputs through its slices at full width")
            for widths in (space.smallest, space.random(generator), space.random(generator)):
                shape = network(example_input, widths).shape
                if shape != full.shape:
                    raise TracingError(
                        f"{kind} gives {tuple(shape)} at widths {widths}, but "
                        f"{tuple(full.shape)} in full"
                    )
    except TracingError:
        raise
    except Exception as error:
        raise TracingError(f"{kind} does not run at widths {widths}: {error}") from error
    if not full.is_meta:
        verification.check_training(network)
