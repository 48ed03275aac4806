"""Reading the arguments of a graph node, however they were given."""

from typing import Any

from torch import fx, nn

from joslim.tracing.walk import Walk


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of the call, by position or by name."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def source_of(node: fx.Node) -> fx.Node:
    """The tensor that an operation with one main operand works on."""
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    assert isinstance(source, fx.Node)
    return source


def layer_of(walk: Walk, node: fx.Node) -> nn.Module | None:
    """The module that the node calls, if it calls one."""
    return walk.modules[str(node.target)] if node.op == "call_module" else None
