"""The graph walk: which channel axes of a network are tied together, and what each layer costs.

One pass over the network's `torch.fx` graph describes every tensor dimension by the channels that
it is made of. Axes that must agree (a residual add, a depthwise convolution, …) are merged into one
channel group. An operation that the walk does not know *freezes* the channels that flow into it:
the search may then move less than it could, but never runs a wrong network, and the group says why.
"""

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from joslim.errors import TracingError
from joslim.tracing.axes import Activation, Axis, NetworkTrace, Part, Product, axis_size, product
from joslim.tracing.rules import apply_rule
from joslim.tracing.walk import Walk, fixed, shape_of

__all__ = ["Activation", "Axis", "NetworkTrace", "Part", "Product", "axis_size", "product", "trace"]


def trace(
    model: nn.Module, example_input: Tensor, *, min_width: float, divisor: int | None
) -> NetworkTrace:
    """Find the channel groups of ``model`` and the terms of its costs.

    Args:
        model: Any module that `torch.fx` can trace; left as it is.
        example_input: A batch, ``(batch, channels, height, width)``.
        min_width: Smallest width multiplier that the search may use, in (0, 1].
        divisor: The search uses multiples of this many channels; None decides for each group.

    Raises:
        TracingError: If `torch.fx` cannot trace the module, or no group can move.
    """
    if not 0 < min_width <= 1:
        raise TracingError(f"min_width is {min_width}; expected 0 < min_width <= 1")
    if divisor is not None and divisor < 1:
        raise TracingError(f"divisor is {divisor}; expected a whole number >= 1")
    graph_module = _graph(model, example_input)
    nodes = list(graph_module.graph.nodes)
    walk = Walk(dict(model.named_modules()))
    for node in nodes:
        if node.op == "output":
            for source in node.all_input_nodes:
                walk.pin(walk.axes.get(source, ()))
        elif (shape := shape_of(node)) is not None:
            from_outside = node.op in ("placeholder", "get_attr")
            walk.axes[node] = fixed(shape) if from_outside else apply_rule(walk, node)
    return walk.result(nodes, min_width, divisor)


def _graph(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        graph_module = fx.symbolic_trace(model)
        with torch.no_grad():
            ShapeProp(graph_module).propagate(example_input[:1])
    except Exception as error:
        raise TracingError(f"torch.fx cannot trace {type(model).__name__}: {error}") from error
    finally:
        for module, training in was_training.items():
            module.training = training
    return graph_module
