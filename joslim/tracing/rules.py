"""How single operations pass channels on.

A rule takes the walk and a node and returns the axes of the node's output. To support an operation,
add its rule to `MODULE_RULES`, `FUNCTION_RULES` or `METHOD_RULES`; one without freezes its inputs.
"""

import operator
from collections.abc import Callable
from itertools import zip_longest
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torchvision.ops import StochasticDepth, stochastic_depth

from joslim.tracing.walk import Run, Runs, Walk, fixed, runs_size, shape_of

Axes = tuple[Runs, ...]
Rule = Callable[[Walk, fx.Node], Axes]


def apply_rule(walk: Walk, node: fx.Node) -> Axes:
    """Axes of the tensor that ``node`` gives; freezes its inputs if there is no rule for it."""
    rule: Rule | None
    if node.op == "call_module":
        kind: Any = type(walk.modules[str(node.target)])
        rule = MODULE_RULES.get(kind)
    elif node.op == "call_function":
        kind, rule = node.target, FUNCTION_RULES.get(node.target)
    else:
        kind, rule = node.target, METHOD_RULES.get(node.target)
    axes = rule(walk, node) if rule else None
    shape = shape_of(node) or ()
    if axes is not None and tuple(map(runs_size, axes)) == shape:
        return axes
    return _freeze(walk, node, getattr(kind, "__name__", str(kind)))


def _freeze(walk: Walk, node: fx.Node, kind: str) -> Axes:
    for source in node.all_input_nodes:
        walk.freeze(walk.axes.get(source, ()), f"node '{node.name}' ({kind}) has no rule for them")
    return fixed(shape_of(node) or ())


def _input(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    assert isinstance(source, fx.Node)
    return source


def _convolution(walk: Walk, node: fx.Node) -> Axes:
    layer = walk.modules[str(node.target)]
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    batch, inputs = walk.axes[_input(node)][:2]
    shape = shape_of(node)
    assert shape is not None
    kernel = fixed(layer.kernel_size)
    taps = prod(layer.kernel_size) * prod(shape[2:])
    if layer.groups == 1:
        outputs = walk.new_channels(str(node.target), layer.out_channels)
        walk.own(node, "weight", (outputs, inputs, *kernel))
        walk.count_macs(taps, outputs, inputs)
        walk.follow(node, "in_channels", inputs)
    elif layer.groups == layer.in_channels == layer.out_channels:
        outputs = inputs
        walk.own(node, "weight", (outputs, *fixed((1,)), *kernel))
        walk.count_macs(taps, outputs)
        walk.follow(node, "in_channels", inputs)
        walk.follow(node, "groups", inputs)
        for run in outputs:
            if run.atom is not None:
                run.atom.root().members.append(str(node.target))
    else:
        walk.freeze((inputs,), f"'{node.target}' is a grouped convolution")
        outputs = walk.new_channels(str(node.target), layer.out_channels)
        walk.freeze((outputs,), f"'{node.target}' is a grouped convolution")
        walk.count_macs(taps * layer.in_channels // layer.groups, outputs)
    walk.follow(node, "out_channels", outputs)
    if layer.bias is not None:
        walk.own(node, "bias", (outputs,))
    return (batch, outputs, *fixed(shape[2:]))


def _linear(walk: Walk, node: fx.Node) -> Axes:
    layer = walk.modules[str(node.target)]
    assert isinstance(layer, nn.Linear)
    *positions, inputs = walk.axes[_input(node)]
    outputs = walk.new_channels(str(node.target), layer.out_features)
    walk.own(node, "weight", (outputs, inputs))
    if layer.bias is not None:
        walk.own(node, "bias", (outputs,))
    walk.follow(node, "in_features", inputs)
    walk.follow(node, "out_features", outputs)
    walk.count_macs(prod(map(runs_size, positions)), outputs, inputs)
    return (*positions, outputs)


def _batch_norm(walk: Walk, node: fx.Node) -> Axes:
    layer = walk.modules[str(node.target)]
    axes = walk.axes[_input(node)]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(layer, name) is not None:
            walk.own(node, name, (axes[1],))
    walk.follow(node, "num_features", axes[1])
    return axes


def _elementwise(walk: Walk, node: fx.Node) -> Axes:
    source = _input(node)
    layer = walk.modules[str(node.target)] if node.op == "call_module" else None
    is_identity = isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity | StochasticDepth)
    if is_identity or getattr(layer, "inplace", False) or node.kwargs.get("inplace"):
        walk.alias(node, source)
    return walk.axes[source]


def _spatial(walk: Walk, node: fx.Node) -> Axes:
    """Pooling: channels stay, positions change."""
    shape = shape_of(node)
    assert shape is not None
    return (*walk.axes[_input(node)][:2], *fixed(shape[2:]))


def _broadcast(walk: Walk, node: fx.Node) -> Axes:
    """Two tensors, or a tensor and a number, element by element."""
    operands = [walk.axes[a] for a in node.args if isinstance(a, fx.Node) and a in walk.axes]
    if len(operands) == 1:
        return operands[0]
    axes = []
    for first, second in zip_longest(*(reversed(axes) for axes in operands)):
        if first is None or second is None:
            axes.append(second or first)
        elif 1 in (runs_size(first), runs_size(second)):
            axes.append(first if runs_size(second) == 1 else second)
        else:
            axes.append(walk.tie(first, second, node))
    return tuple(reversed(axes))


def _flatten(walk: Walk, node: fx.Node) -> Axes:
    """Any reshape that merges all dimensions after the first: channels become blocks."""
    source = _input(node)
    batch, *rest = walk.axes[source]
    shape = shape_of(node)
    moving = [i for i, axis in enumerate(rest) if any(run.atom is not None for run in axis)]
    if shape is None or len(shape) != 2 or any(i > 0 for i in moving):
        return ()
    walk.alias(node, source)
    positions = prod(map(runs_size, rest[1:]))
    return (batch, tuple(Run(run.atom, run.block * positions) for run in rest[0]))


def _mean(walk: Walk, node: fx.Node) -> Axes:
    """A mean over positions; dimensions keep their place in the output or vanish."""
    axes = walk.axes[_input(node)]
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dims = (given,) if isinstance(given, int) else given
    if not isinstance(dims, tuple | list) or not all(isinstance(dim, int) for dim in dims):
        return ()
    reduced = {int(dim) % len(axes) for dim in dims}
    if not reduced.isdisjoint({0, 1}):
        return ()
    keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
    kept = [fixed((1,))[0] if i in reduced else axis for i, axis in enumerate(axes)]
    return tuple(kept if keep else [a for i, a in enumerate(axes) if i not in reduced])


def _concatenate(walk: Walk, node: fx.Node) -> Axes:
    sources = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if not isinstance(sources, tuple | list) or dim != 1:
        return ()
    operands = [walk.axes[source] for source in sources if isinstance(source, fx.Node)]
    joined = tuple(run for axes in operands for run in axes[1])
    return (operands[0][0], joined, *operands[0][2:])


MODULE_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    nn.Linear: _linear,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    **dict.fromkeys(
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh), _elementwise
    ),
    **dict.fromkeys((nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh), _elementwise),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, nn.Identity, StochasticDepth), _elementwise),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d), _spatial),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), _spatial),
    nn.Flatten: _flatten,
}

FUNCTION_RULES: dict[Any, Rule] = {
    **dict.fromkeys((F.relu, F.relu6, F.gelu, F.silu, F.leaky_relu, F.hardswish), _elementwise),
    **dict.fromkeys((F.dropout, torch.relu, torch.sigmoid, torch.tanh), _elementwise),
    stochastic_depth: _elementwise,
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d), _spatial),
    **dict.fromkeys((F.adaptive_avg_pool2d, F.adaptive_max_pool2d), _spatial),
    **dict.fromkeys((operator.add, operator.iadd, operator.sub, operator.truediv), _broadcast),
    **dict.fromkeys((operator.mul, torch.add, torch.sub, torch.mul, torch.div), _broadcast),
    torch.flatten: _flatten,
    torch.mean: _mean,
    torch.cat: _concatenate,
}

METHOD_RULES: dict[Any, Rule] = {
    **dict.fromkeys(("relu", "sigmoid", "contiguous"), _elementwise),
    **dict.fromkeys(("add", "add_", "mul", "sub", "div"), _broadcast),
    **dict.fromkeys(("flatten", "view", "reshape"), _flatten),
    "mean": _mean,
}
