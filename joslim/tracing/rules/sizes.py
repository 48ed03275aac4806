"""Arithmetic on sizes: what code computes from `x.shape` before it uses it."""

import operator

from torch import fx

from joslim.tracing.channels import Run, Unfollowed, count, fixed, moves, size_of
from joslim.tracing.graph import result_of
from joslim.tracing.rules.arguments import source_of
from joslim.tracing.rules.pointwise import broadcast
from joslim.tracing.values import Size, TensorValue, Value, constant, runs_in
from joslim.tracing.walk import Walk


def compare(walk: Walk, node: fx.Node) -> Value:
    """Whether numbers are equal, or one is larger: the same at all widths, or not followed.

    Of tensors, the elements are compared, and stay where they are.
    """
    values = [walk.value(operand) for operand in node.args]
    if any(isinstance(value, TensorValue) for value in values):
        return broadcast(walk, node)
    sizes = [value.runs if isinstance(value, Size) else () for value in values]
    if not any(map(moves, sizes)):
        return constant(result_of(node))
    if node.target is not operator.eq or result_of(node) is not True:
        raise Unfollowed("compares their number")
    first, second = sizes
    if count(first) != count(second):
        for number, runs in zip(node.args, reversed(sizes), strict=True):
            if isinstance(number, int):
                walk.follow_numbers(node, [number], [runs])
                return None
        raise Unfollowed("compares their number")
    return None


def decided(walk: Walk, node: fx.Node) -> None:
    """Code that goes one of two ways."""
    if any(map(moves, runs_in(walk.value(source_of(node))))):
        raise Unfollowed("asks for their number to choose what runs")


def multiply_sizes(walk: Walk, node: fx.Node) -> Value:
    """A size times a number."""
    first, second = (walk.size(operand) for operand in node.args)
    if moves(first) and moves(second):
        raise Unfollowed("multiplies two sizes that move")
    moving, factor = (second, first) if moves(second) else (first, second)
    return Size(walk.channels.scale(moving, size_of(factor)))


def divide_sizes(walk: Walk, node: fx.Node) -> Value:
    """A size divided by a number: exactly, at all widths, or not at all."""
    size, divisor = (walk.size(operand) for operand in node.args)
    if moves(divisor):
        raise Unfollowed("divides by a number of channels")
    if not moves(size):
        return Size(fixed((result_of(node),))[0])
    by, total = size_of(divisor), count(size)
    if all(block % by == 0 for block in total.values()):
        return Size(tuple(Run(atom, block // by) for atom, block in total.items()))
    return Size(walk.channels.split(size, by, f"node '{node.name}'"))


def remainder_of_sizes(walk: Walk, node: fx.Node) -> Size:
    """What a size leaves when divided by a number: nothing, at all widths."""
    if any(moves(walk.size(operand)) for operand in node.args):
        if result_of(node):
            raise Unfollowed("leaves some of their number")
        divide_sizes(walk, node)
    return Size(fixed((result_of(node),))[0])
