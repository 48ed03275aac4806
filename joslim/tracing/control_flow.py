"""Decisions that code makes on sizes: taken as for the example image, and noted in the graph.

A network that asks `if x.shape[-1] < 7` runs one of two ways, at any width. One that asks for the
number of channels runs another way when narrow, so these channels are frozen: the graph holds a
node for each decision, and the walk sees what flows into it. What depends on the contents of a
tensor cannot be decided.
"""

from typing import Any

import torch
from torch import Tensor, fx


def decided(value: Any) -> None:
    """Stands in the graph for the use of ``value`` in an `if` or the like."""


class Decisions:
    """Works out sizes while a network is traced, by running what is traced on the meta device.

    Attributes:
        running: Whether modules now run in earnest rather than being traced.
    """

    def __init__(self, image: Tensor, uses: set[tuple[str, str]]) -> None:
        """Work on ``image``; keep the attributes that running computes with out of ``uses``."""
        self.running = False
        self._image = image.to("meta")
        self._uses = uses
        self._interpreter: fx.Interpreter | None = None

    def value_of(self, node: fx.Node, tracer: fx.Tracer) -> Any:
        """What ``node`` gives if it can be said without the contents of tensors, else None."""
        if self._interpreter is None:
            self._interpreter = _OnMeta(tracer.root, graph=tracer.graph)
            self._interpreter.args_iter = iter([self._image])
        known = self._interpreter.env
        uses_before = set(self._uses)
        self.running = True
        try:
            with torch.no_grad():
                for earlier in tracer.graph.nodes:
                    if earlier not in known:
                        known[earlier] = self._interpreter.run_node(earlier)
            value = known[node]
        except (RuntimeError, TypeError, NotImplementedError, AttributeError):
            return None
        finally:
            self.running = False
            self._uses.intersection_update(uses_before)
        return None if isinstance(value, Tensor) else value


class _OnMeta(fx.Interpreter):
    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.to("meta") if isinstance(value, Tensor) else value
