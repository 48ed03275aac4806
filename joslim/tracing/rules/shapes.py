"""Operations that move elements without changing them, and arithmetic on sizes.

A reshape that names a number of channels as a literal keeps that number at every width, so it
freezes them; `-1` and sizes computed from ``x.shape`` follow the widths.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from torch import fx

from joslim.tracing.attributes import Attribute
from joslim.tracing.channels import Axes, Runs, Unfollowed, count, fixed, moves, size_of
from joslim.tracing.graph import result_of, shape_of
from joslim.tracing.rules.arguments import argument, layer_of, source_of
from joslim.tracing.rules.parts import stretch
from joslim.tracing.values import Size, TensorValue, Value, constant, runs_in
from joslim.tracing.walk import Walk


def attribute(walk: Walk, node: fx.Node) -> Value:
    """``x.shape``, or what is the same at all widths."""
    name = argument(node, 1, "name")
    value = walk.value(source_of(node))
    if isinstance(value, tuple) and name == "values":  # of a maximum, beside its indices
        return value[0]
    if name not in ("shape", "ndim", "dtype", "device", "requires_grad"):
        raise Unfollowed(f"has no rule for '{name}'")
    return shape(walk, node) if name == "shape" else independent(walk, node)


def shape(walk: Walk, node: fx.Node) -> Value:
    """``x.shape``, ``x.size()`` or ``x.size(dim)``."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 1, "dim") if node.op == "call_method" else None
    return Size(axes[dim]) if isinstance(dim, int) else tuple(map(Size, axes))


def independent(walk: Walk, node: fx.Node) -> Value:
    """The rank or the like: the same at all widths."""
    del walk
    return constant(result_of(node))


def reshape(walk: Walk, node: fx.Node) -> TensorValue:
    """``x.view(*sizes)`` and ``x.reshape(*sizes)``, as methods or functions."""
    given = _sizes(walk, node)
    sizes = [None if size == -1 else walk.size(size) for size in given]
    return reshaped(walk, node, sizes, given)


def unflatten(walk: Walk, node: fx.Node) -> TensorValue:
    """One dimension as several."""
    axes = walk.axes(source_of(node))
    layer: Any = layer_of(walk, node)
    dim = (layer.dim if layer else argument(node, 1, "dim")) % len(axes)
    given = layer.unflattened_size if layer else argument(node, 2, "sizes")
    if not isinstance(given, tuple | list):
        raise Unfollowed("takes a computed list of sizes")
    sizes = [None if size == -1 else walk.size(size) for size in given]
    numbers = [None] * dim + list(given)
    return reshaped(walk, node, [*axes[:dim], *sizes, *axes[dim + 1 :]], numbers)


def _sizes(walk: Walk, node: fx.Node) -> tuple[Any, ...]:
    """The sizes that an operation was given one by one, as a sequence, or as another's shape."""
    given: Any = node.args[1:] or tuple(node.kwargs.values())[-1:]
    if len(given) > 1:
        return given
    (entry,) = given
    if isinstance(entry, fx.Node):
        entry = walk.value(entry)
    return tuple(entry) if isinstance(entry, tuple | list) else given


def reshape_as(walk: Walk, node: fx.Node) -> TensorValue:
    """``x.reshape_as(y)`` and ``x.view_as(y)``."""
    return reshaped(walk, node, list(walk.axes(argument(node, 1, "other"))))


def flatten(walk: Walk, node: fx.Node) -> TensorValue:
    """Neighbouring dimensions merged into one."""
    axes = walk.axes(source_of(node))
    layer = layer_of(walk, node)
    default = (1, -1) if layer else (0, -1)
    start = getattr(layer, "start_dim", argument(node, 1, "start_dim", default[0])) % len(axes)
    end = getattr(layer, "end_dim", argument(node, 2, "end_dim", default[1])) % len(axes)
    return reshaped(walk, node, [*axes[:start], None, *axes[end + 1 :]])


def reshaped(
    walk: Walk, node: fx.Node, sizes: Sequence[Runs | None], given: Sequence[Any] = ()
) -> TensorValue:
    """The same elements in the same order, in dimensions of ``sizes``; None is worked out.

    Of the sizes as they were ``given``, an attribute of a module may be the one that moves: the
    first, such as the number of heads before what each of them holds.
    """
    axes = walk.axes(source_of(node))
    new_shape = shape_of(node)
    result: list[Runs] = []
    for old, new in _factors([size_of(axis) for axis in axes], new_shape):
        whole = _merge(walk, axes[old])
        result += _divide(walk, node, whole, sizes[new], new_shape[new], given[new])
    return TensorValue(tuple(result))


def _factors(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The shortest stretches of two shapes that hold equally many elements."""
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j, i, j = i, j, min(i + 1, len(old)), min(j + 1, len(new))
        while (left := prod(old[start_i:i])) != (right := prod(new[start_j:j])):
            if left < right:
                i += 1
            else:
                j += 1
        yield slice(start_i, i), slice(start_j, j)


def _merge(walk: Walk, axes: Axes) -> Runs:
    """Dimensions as one: channels before positions become blocks, after them repetitions."""
    if sum(map(moves, axes)) > 1:
        walk.channels.settle(axes)
    moving = [i for i, axis in enumerate(axes) if moves(axis)]
    if not moving:
        return fixed((prod(map(size_of, axes)),))[0]
    if len(moving) > 1:
        raise Unfollowed("merges two dimensions of channels")
    before, after = axes[: moving[0]], axes[moving[0] + 1 :]
    block = walk.channels.scale(axes[moving[0]], prod(map(size_of, after)))
    return block * prod(map(size_of, before))


def _divide(
    walk: Walk,
    node: fx.Node,
    whole: Runs,
    sizes: Sequence[Runs | None],
    shape: Sequence[int],
    numbers: Sequence[Any],
) -> Axes:
    """One dimension as several, of which at most one moves."""
    given = [i for i, size in enumerate(sizes) if size is not None and moves(size)]
    free = [i for i, size in enumerate(sizes) if size is None]
    if not moves(whole) and not given:
        return fixed(shape)
    named = [i for i, number in enumerate(numbers) if isinstance(number, Attribute)]
    by_name = not given and not free
    if by_name and not named:
        raise Unfollowed(f"writes down the number of channels in {tuple(shape)}")
    if len(given) > 1 or not moves(whole):
        raise Unfollowed("makes channels of something else")
    at = (given or free or named)[0]
    part = walk.channels.split(whole, prod(shape[:at]), f"node '{node.name}'")
    part = walk.channels.divide(part, prod(shape[at + 1 :]))
    if by_name:
        walk.follow_numbers(node, [numbers[at]], [part])
    if given and count(part) != count(sizes[at] or ()):
        walk.channels.tie(part, sizes[at] or (), f"node '{node.name}'")
    return (*fixed(shape[:at]), part, *fixed(shape[at + 1 :]))


def permute(walk: Walk, node: fx.Node) -> TensorValue:
    """All dimensions in another order."""
    axes = walk.axes(source_of(node))
    layer = layer_of(walk, node)
    given: Any = (layer.dims,) if layer else node.args[1:] or (node.kwargs["dims"],)
    dims = given[0] if isinstance(given[0], tuple | list) else given
    return TensorValue(tuple(axes[dim] for dim in dims))


def transpose(walk: Walk, node: fx.Node) -> TensorValue:
    """Two dimensions change places."""
    axes = list(walk.axes(source_of(node)))
    first, second = node.args[1:] if len(node.args) > 1 else tuple(node.kwargs.values())[-2:]
    assert isinstance(first, int)
    assert isinstance(second, int)
    axes[first], axes[second] = axes[second], axes[first]
    return TensorValue(tuple(axes))


def move_dims(walk: Walk, node: fx.Node) -> TensorValue:
    """Some dimensions at other places; the rest keep their order."""
    axes = walk.axes(source_of(node))
    sources, places = (argument(node, i, name) for i, name in ((1, "source"), (2, "destination")))
    pairs = [(places, sources)] if isinstance(places, int) else zip(places, sources, strict=True)
    moved = {place % len(axes): source % len(axes) for place, source in pairs}
    order = [i for i in range(len(axes)) if i not in moved.values()]
    for place, source in sorted(moved.items()):
        order.insert(place, source)
    return TensorValue(tuple(axes[i] for i in order))


def squeeze(walk: Walk, node: fx.Node) -> TensorValue:
    """Dimensions of size 1 vanish."""
    axes = walk.axes(source_of(node))
    given = argument(node, 1, "dim")
    dims = range(len(axes)) if given is None else [given] if isinstance(given, int) else given
    gone = {dim % len(axes) for dim in dims if axes[dim] == fixed((1,))[0]}
    return TensorValue(tuple(axis for i, axis in enumerate(axes) if i not in gone))


def unsqueeze(walk: Walk, node: fx.Node) -> TensorValue:
    """A new dimension of size 1."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 1, "dim") % (len(axes) + 1)
    return TensorValue((*axes[:dim], *fixed((1,)), *axes[dim:]))


def expand(walk: Walk, node: fx.Node) -> TensorValue:
    """Dimensions of size 1 repeated, without a copy."""
    axes = walk.axes(source_of(node))
    given = _sizes(walk, node)
    axes = (*fixed((1,) * (len(given) - len(axes))), *axes)
    result = []
    for axis, size in zip(axes, given, strict=True):
        if size == -1:
            result.append(axis)
        elif size_of(axis) == 1:
            result.append(walk.size(size))
        elif count(axis) == count(walk.size(size)):
            result.append(axis)
        else:
            raise Unfollowed("writes down the number of channels")
    return TensorValue(tuple(result))


def index(walk: Walk, node: fx.Node) -> Value:
    """One of several results, or part of a tensor: any positions, but all of its channels."""
    value = walk.value(source_of(node))
    key = argument(node, 1, "key")
    if isinstance(value, tuple) and isinstance(key, int | slice):
        return value[key]
    if not isinstance(value, TensorValue):
        raise Unfollowed("looks up what is computed")
    keys = list(key) if isinstance(key, tuple | list) else [key]
    taken = sum(entry is not None and entry is not Ellipsis for entry in keys)
    rest = [slice(None)] * (len(value.axes) - taken)
    at = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    keys[at : at + 1] = rest
    bounds = [walk.value(n) for n in node.all_input_nodes if n is not source_of(node)]
    runs = [runs for bound in bounds for runs in runs_in(bound)]
    walk.channels.settle(runs)
    if any(map(moves, runs)):
        raise Unfollowed("picks as many elements as there are channels")
    looks_up = any(isinstance(bound, TensorValue) for bound in bounds)
    if looks_up and sum(key != slice(None) for key in keys) > 1:
        raise Unfollowed("looks up several dimensions")
    return TensorValue(_indexed(walk, node, value.axes, keys))


def _indexed(walk: Walk, node: fx.Node, axes: Axes, keys: list[object]) -> Axes:
    shape = shape_of(node)
    remaining = iter(axes)
    result: list[Runs] = []
    for key in keys:
        if key is None:
            result.append(fixed((1,))[0])
            continue
        axis = next(remaining)
        table = walk.value(key) if isinstance(key, fx.Node) else None
        if key == slice(None):
            result.append(axis)
        elif isinstance(table, TensorValue):
            walk.channels.settle((axis,))
            if moves(axis):
                raise Unfollowed("picks some of the channels")
            result += table.axes
        elif moves(axis) and isinstance(key, slice):
            result.append(stretch(walk, node, axis, key))
        elif moves(axis) or not isinstance(key, int | slice):
            raise Unfollowed("picks some of the channels")
        elif isinstance(key, slice):
            result.append(fixed(shape[len(result) : len(result) + 1])[0])
    return tuple(result)
