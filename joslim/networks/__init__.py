"""Networks by name: CIFAR-style ResNets, torchvision's and timm's classifiers, own factories."""

from torch import nn

from joslim.errors import NetworkError
from joslim.networks.cifar_resnet import CifarResNet as CifarResNet
from joslim.networks.cifar_resnet import cifar_resnet
from joslim.networks.libraries import timm_model, torchvision_model
from joslim.networks.own_code import imported
from joslim.networks.own_code import is_own as is_own
from joslim.networks.own_code import module_type as module_type
from joslim.networks.own_code import require_allowed as require_allowed
from joslim.networks.pretrained import FILES, load_weights_


def create(
    name: str, num_classes: int, in_channels: int = 3, weights: str | None = None
) -> nn.Module:
    """Build a network with fresh weights, or from pretrained ones.

    Args:
        name: ``resnet8`` … ``resnet56`` (CIFAR-style), ``resnet8-half`` … ``resnet56-half`` (at
            half the resolution, for a quarter of the MACs), ``torchvision:NAME``, ``timm:NAME`` if
            timm is installed, or ``package.module:factory``, a callable that takes ``num_classes``
            and ``in_channels``. It is imported and called: pass no such name that is not your own.
        num_classes: Length of the network's output.
        in_channels: 1 for grey images, 3 for colour.
        weights: A file of pretrained weights, or for ``torchvision:NAME`` and ``timm:NAME`` also
            their name (timm's tag); the output layer is fresh if their number of classes is
            another.

    Raises:
        NetworkError: If no such network or weights exist, or it cannot take so many input channels.
    """
    call = f"{name}(num_classes={num_classes}, in_channels={in_channels})"
    try:
        model = _created(name, num_classes, in_channels, weights)
    except NetworkError:
        raise
    except Exception as error:  # whatever a factory or a library's builder does
        raise NetworkError(f"{call} fails with {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise NetworkError(f"{call} gives {model!r}; expected an nn.Module")
    return model


def _created(name: str, num_classes: int, in_channels: int, weights: str | None) -> nn.Module:
    source, colon, rest = name.partition(":")
    if colon and source == "torchvision":
        return torchvision_model(rest, num_classes, in_channels, weights)
    if colon and source == "timm":
        return timm_model(rest, num_classes, in_channels, weights)
    if weights is not None and not weights.endswith(FILES):
        raise NetworkError(
            f"weights is '{weights}', but '{name}' has none by name; expected a file "
            f"({', '.join(FILES)}), or none"
        )
    if is_own(name):
        model = imported(name)(num_classes=num_classes, in_channels=in_channels)
    else:
        model = cifar_resnet(name, num_classes, in_channels)
    if weights is not None:
        load_weights_(model, name, weights)
    return model
