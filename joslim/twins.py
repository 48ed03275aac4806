"""Twins: copies of a module that share its parameters and buffers, but not all of its code."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

Replacement = Callable[[nn.Module], type[nn.Module] | None]
"""The class that is to take a module's place; None keeps the module's own."""


def twin(model: nn.Module, replacement: Replacement) -> nn.Module:
    """``model``, or a copy in which some modules are of other classes.

    Parameters and buffers are those of ``model``: what changes in one of the two, as by training
    or by a new buffer under an old name, changes in the other. The switch between train and eval
    mode is each one's own, and so are other attributes and hooks that are set later.

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
    # All copies are there before any is filled, as modules may refer to each other in circles.
    memo: dict[int, Any] = {}
    for module, replaced_by in kinds.items():
        kind = replaced_by or type(module)
        memo[id(module)] = copied = kind.__new__(kind)
        nn.Module.__init__(copied)
        for registry in (module._parameters, module._buffers):
            memo[id(registry)] = registry
            memo |= {id(tensor): tensor for tensor in registry.values() if tensor is not None}
    for module in kinds:
        memo[id(module)].__dict__.update(copy.deepcopy(vars(module), memo))
    for module, replaced_by in reversed(kinds.items()):
        if replaced_by is not None and hasattr(replaced_by, "adopt"):
            memo[id(module)].adopt()
    copied_model: nn.Module = memo[id(model)]
    return copied_model
