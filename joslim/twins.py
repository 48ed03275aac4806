"""Twins: copies of a module that share its parameters and buffers, but not all of its code."""

import copy
from collections.abc import Callable
from itertools import chain

from torch import nn

Replacement = Callable[[nn.Module], type[nn.Module] | None]
"""The class that is to take a module's place; None keeps the module's own."""


def twin(model: nn.Module, replacement: Replacement) -> nn.Module:
    """``model``, or a copy in which some modules are of other classes.

    What changes in one of the two, as by training, changes in the other, since parameters and
    buffers are the same tensors; the switch between train and eval mode is each one's own.

    Args:
        model: Left as it is.
        replacement: A class that can do with the attributes of the module in whose place it comes;
            it may have a method ``adopt``, which is called once it has them.

    Returns:
        ``model`` itself if nothing is replaced.
    """
    kinds = {module: replacement(module) for module in model.modules()}
    if not any(kinds.values()):
        return model
    known = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    memo: dict[int, object] = dict(known)
    # From the innermost, so that what is copied for one of them holds those inside of it.
    for module, kind in reversed(kinds.items()):
        if kind is not None:
            memo[id(module)] = _as(kind, module, memo)
    return copy.deepcopy(model, memo)


def _as(kind: type[nn.Module], module: nn.Module, memo: dict[int, object]) -> nn.Module:
    """A module of another class with all that ``module`` has."""
    replaced = kind.__new__(kind)
    nn.Module.__init__(replaced)
    replaced.__dict__.update(copy.deepcopy(vars(module), memo))
    if (adopt := getattr(replaced, "adopt", None)) is not None:
        adopt()
    return replaced
