"""The graph walk: which channel axes of a network are tied together, and what each layer costs.

One pass over the network's `torch.fx` graph describes every tensor dimension by the channels that
it is made of. Axes that must agree (a residual add, a depthwise convolution, …) are merged into one
channel group. An operation that the walk does not know *freezes* the channels that flow into it:
the search may then move less than it could, but never runs a wrong network, and the group says why.
"""

from torch import Tensor, nn

from joslim.errors import TracingError
from joslim.tracing.axes import (
    Activation,
    Axis,
    NetworkTrace,
    Operation,
    Part,
    Product,
    axis_size,
    product,
)
from joslim.tracing.channels import Unfollowed, fixed
from joslim.tracing.graph import build_graph, result_of
from joslim.tracing.rules.table import MODULES, apply_rule, read_parameter, register
from joslim.tracing.values import TensorValue, constant, runs_in
from joslim.tracing.walk import Walk

__all__ = [
    "Activation",
    "Axis",
    "NetworkTrace",
    "Operation",
    "Part",
    "Product",
    "TensorValue",
    "Unfollowed",
    "Walk",
    "axis_size",
    "fixed",
    "product",
    "register",
    "trace",
]


def trace(
    model: nn.Module,
    example_input: Tensor,
    *,
    min_width: float,
    divisor: int | None,
    leaves: tuple[type[nn.Module], ...] = (),
) -> NetworkTrace:
    """Find the channel groups of ``model`` and the terms of its costs.

    Args:
        model: Any module that `torch.fx` can trace; left as it is.
        example_input: A batch, ``(batch, channels, height, width)``.
        min_width: Smallest width multiplier that the search may use, in (0, 1].
        divisor: The search uses multiples of this many channels; None decides for each group.
        leaves: Modules that are not looked into; the channels that they touch are frozen.

    Raises:
        TracingError: If `torch.fx` cannot trace the module, or no group can move.
    """
    if not 0 < min_width <= 1:
        raise TracingError(f"min_width is {min_width}; expected 0 < min_width <= 1")
    if divisor is not None and divisor < 1:
        raise TracingError(f"divisor is {divisor}; expected a whole number >= 1")
    if isinstance(model, leaves):
        raise TracingError(
            f"{type(model).__name__} is the whole network and cannot be a leaf; expected a module "
            "inside of it"
        )
    traced = build_graph(model, example_input[:1], MODULES, leaves)
    nodes = list(traced.graph.nodes)
    walk = Walk(dict(model.named_modules()), traced.computed_with)
    for node in nodes:
        if node.op == "output":
            for source in node.all_input_nodes:
                walk.pin(runs_in(walk.values[source]))
        elif node.op == "placeholder":
            walk.values[node] = constant(result_of(node))
        elif node.op == "get_attr":
            walk.values[node] = read_parameter(walk, node)
        else:
            walk.values[node] = apply_rule(walk, node)
    return walk.result(nodes, min_width, divisor)
