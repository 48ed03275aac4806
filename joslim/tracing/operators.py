"""Which of PyTorch's own operators an operation ran, however it was spelt.

`torch.clip`, ``x.clamp(0, 1)`` and `nn.Hardtanh` have their own names in Python, and one kind of
operator underneath. PyTorch tags those that work element by element.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten

_ALSO_POINTWISE = {
    _aten._to_copy.default,
    _aten.alias.default,
    _aten.detach.default,
    _aten.floor_divide.default,
    _aten.hardswish.default,
    _aten.hardswish_.default,
    _aten.lift_fresh.default,
    _aten.log_sigmoid_forward.default,
    _aten.scalar_tensor.default,
    _aten.zeros_like.default,
    _aten.ones_like.default,
}
"""Operators that work element by element, or on one number, without PyTorch's tag for it."""


class Operators(TorchDispatchMode):
    """Collects the operators that run.

    Attributes:
        ran: In the order in which they ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ran.append(func)
        return func(*args, **(kwargs or {}))


def note(node: fx.Node, operators: Operators, result: Any, sources: list[Any]) -> None:
    """Remember what ran for ``node``, and whether it gave back one of its ``sources``."""
    returned = any(isinstance(result, Tensor) and result is source for source in sources)
    is_one = all(map(_is_pointwise, operators.ran)) if operators.ran else returned
    node.meta["is_pointwise"] = is_one and isinstance(result, Tensor)


def is_pointwise(node: fx.Node) -> bool:
    """Whether each element that ``node`` gives depends on the operands' elements at its place.

    Operands are broadcast. An operation that gave its operand back, as dropout does in eval mode,
    is one of them.
    """
    return bool(node.meta["is_pointwise"])


def _is_pointwise(operator: Any) -> bool:
    return torch.Tag.pointwise in operator.tags or operator in _ALSO_POINTWISE
