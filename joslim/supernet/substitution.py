"""Other tensors and attributes in a module's place: while it runs, and again for its gradients.

Activation checkpointing runs parts of a network a second time during the backward pass. What the
forward pass ran with has to stand there again, or the gradients are those of other weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd import Variable

Attributes = Mapping[tuple[str, str], Any]
"""Values of attributes by the module's path and the attribute's name."""

Place = tuple[dict[str, Any], str]
"""A module's dictionary of parameters, buffers or attributes, and a name in it."""


class Substitution:
    """Runs one module with other tensors and attributes than its own.

    Attributes:
        buffers: Names of the module's buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._places = _places(model)
        self._replaced: list[tuple[Place, Any]] = []
        self.buffers = tuple(name for name, _ in model.named_buffers())

    def own(self, name: str) -> Tensor:
        """The module's own parameter or buffer called ``name``."""
        registry, leaf = self._places[name][0]
        tensor: Tensor = registry[leaf]
        return tensor

    def run(self, x: Tensor, tensors: Mapping[str, Tensor], attributes: Attributes) -> Any:
        """What the module makes of ``x``; backward passes find the same tensors and attributes.

        Args:
            x: The module's input.
            tensors: By the names of the parameters and buffers whose place they take.
            attributes: Likewise, of what is neither and yet decides how a layer computes.
        """
        with self._standing(tensors, attributes):
            outputs = self._model(x)
        node = getattr(outputs, "grad_fn", None)
        if node is not None:
            node.register_prehook(partial(self._stand_in_backward, tensors, attributes))
        return outputs

    def end(self) -> None:
        """Put the module's own back, also after a backward pass that was broken off."""
        while self._replaced:
            (registry, name), own = self._replaced.pop()
            registry[name] = own

    @contextmanager
    def _standing(self, tensors: Mapping[str, Tensor], attributes: Attributes) -> Iterator[None]:
        self._begin(tensors, attributes)
        try:
            yield
        finally:
            self.end()

    def _begin(self, tensors: Mapping[str, Tensor], attributes: Attributes) -> None:
        self.end()
        for name, tensor in tensors.items():
            for place in self._places[name]:
                self._replace(place, tensor)
        for (path, name), value in attributes.items():
            self._replace((vars(self._model.get_submodule(path)), name), value)

    def _replace(self, place: Place, value: Any) -> None:
        registry, name = place
        self._replaced.append((place, registry[name]))
        registry[name] = value

    def _stand_in_backward(
        self, tensors: Mapping[str, Tensor], attributes: Attributes, *gradients: Any
    ) -> None:
        del gradients
        self._begin(tensors, attributes)
        Variable._execution_engine.queue_callback(self.end)


def _places(model: nn.Module) -> dict[str, list[Place]]:
    """Where each parameter and buffer is, by name; all places of one that modules share."""
    found: dict[str, list[Place]] = {}
    shared: dict[int, list[Place]] = {}
    for path, module in model.named_modules():
        for registry in (module._parameters, module._buffers):
            for leaf, tensor in registry.items():
                if tensor is not None:
                    found[f"{path}.{leaf}" if path else leaf] = shared.setdefault(id(tensor), [])
                    shared[id(tensor)].append((registry, leaf))
    return found
