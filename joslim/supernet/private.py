"""What a width configuration may have of its own, beside its slice of the shared weights."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from joslim.errors import NetworkError
from joslim.supernet.batch_norm import batch_statistics

Private = Literal["nothing", "norms", "norms-and-classifier", "all"]
"""Which parameters are private to a configuration: none; scale and shift of the normalisation
layers; those and the layer that gives the logits; or all, so that nothing is shared."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running statistics of each batch norm, by name."""
    return {
        f"{path}.{leaf}" if path else leaf: buffer
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for leaf, buffer in module.named_buffers()
        if buffer.is_floating_point()
    }


def private_parameters(model: nn.Module, private: Private, image: Tensor) -> list[str]:
    """Names of the parameters that are private to a configuration.

    Args:
        model: Dense; images to logits.
        private: Which those are.
        image: A batch of images that it can take, of any content, to see which layer comes last.

    Raises:
        NetworkError: If ``model`` has no such parameters.
    """
    if private not in get_args(Private):
        raise NetworkError(f"private is '{private}'; expected {', '.join(get_args(Private))}")
    if private == "nothing":
        return []
    if private == "all":
        return [name for name, _ in model.named_parameters()]
    chosen: set[nn.Module] = set(filter(_is_norm, model.modules()))
    if private == "norms-and-classifier":
        chosen.add(_last_layer(model, image))
    names = [
        f"{path}.{leaf}" if path else leaf
        for path, module in model.named_modules()
        if module in chosen
        for leaf, _ in module.named_parameters(recurse=False)
    ]
    if not names:
        raise NetworkError(
            f"private is '{private}', but the network has no normalisation layers with a scale and "
            "shift; expected nothing, norms-and-classifier or all"
        )
    return names


def _is_norm(module: nn.Module) -> bool:
    """PyTorch's normalisation layers, and others that are called so and have scales and shifts."""
    if isinstance(module, NORMS):
        return True
    parameters = [parameter.ndim for parameter in module.parameters()]
    is_called_so = "norm" in type(module).__name__.lower() and not any(module.children())
    return is_called_so and bool(parameters) and max(parameters) == 1


@torch.no_grad()
def _last_layer(model: nn.Module, image: Tensor) -> nn.Module:
    """The last layer with parameters that runs."""
    ran: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        ran.append(module)

    layers = [
        m for m in model.modules() if any(True for _ in m.parameters()) and not any(m.children())
    ]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with batch_statistics(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        raise NetworkError("no layer of the network has parameters; expected a classifier")
    return ran[-1]
