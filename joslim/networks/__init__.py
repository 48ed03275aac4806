"""Networks by name: CIFAR-style ResNets, torchvision's and timm's classifiers, own factories."""

import importlib
from typing import Any

from torch import nn

from joslim.errors import NetworkError
from joslim.networks.cifar_resnet import CifarResNet as CifarResNet
from joslim.networks.cifar_resnet import cifar_resnet
from joslim.networks.libraries import timm_model, torchvision_model
from joslim.networks.pretrained import FILES, load_weights_


def create(
    name: str, num_classes: int, in_channels: int = 3, weights: str | None = None
) -> nn.Module:
    """Build a network with fresh weights, or from pretrained ones.

    Args:
        name: ``resnet8`` … ``resnet56`` (CIFAR-style), ``resnet8-half`` … ``resnet56-half`` (at
            half the resolution, for a quarter of the MACs), ``torchvision:NAME``, ``timm:NAME`` if
            timm is installed, or ``package.module:factory``, a callable that takes ``num_classes``
            and ``in_channels``.
        num_classes: Length of the network's output.
        in_channels: 1 for grey images, 3 for colour.
        weights: A file of pretrained weights, or for ``torchvision:NAME`` and ``timm:NAME`` also
            their name (timm's tag); the output layer is fresh if their number of classes is
            another.

    Raises:
        NetworkError: If no such network or weights exist, or it cannot take so many input channels.
    """
    source, _, rest = name.partition(":")
    if source == "torchvision" and rest:
        return torchvision_model(rest, num_classes, in_channels, weights)
    if source == "timm" and rest:
        return timm_model(rest, num_classes, in_channels, weights)
    if weights is not None and not weights.endswith(FILES):
        raise NetworkError(
            f"weights is '{weights}', but '{name}' has none by name; expected a file "
            f"({', '.join(FILES)}), or none"
        )
    if rest:
        model = _from_factory(name, num_classes, in_channels)
    else:
        model = cifar_resnet(name, num_classes, in_channels)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def module_type(name: str) -> type[nn.Module]:
    """The class called ``package.module:Class``.

    Raises:
        NetworkError: If it cannot be imported, or is no module's.
    """
    found = _imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise NetworkError(f"'{name}' is {found!r}; expected a class of nn.Module")
    return found


def _from_factory(name: str, num_classes: int, in_channels: int) -> nn.Module:
    call = f"(num_classes={num_classes}, in_channels={in_channels})"
    try:
        model = _imported(name)(num_classes=num_classes, in_channels=in_channels)
    except NetworkError:
        raise
    except Exception as error:
        raise NetworkError(f"{name}{call} fails with {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(f"{name}{call} gives {model!r}; expected an nn.Module")
    return model


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"'{name}' cannot be imported: {error}; expected package.module:name, installed or in "
            "the working directory"
        ) from error
