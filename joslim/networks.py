"""Networks by name: CIFAR-style ResNets, torchvision's and timm's classifiers, own factories."""

import importlib
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from joslim.errors import NetworkError
from joslim.pretrained import FILES, load_weights_

CIFAR_RESNET_DEPTHS = (8, 14, 20, 32, 44, 56)


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
        return _torchvision(rest, num_classes, in_channels, weights)
    if source == "timm" and rest:
        return _timm(rest, num_classes, in_channels, weights)
    if weights is not None and not weights.endswith(FILES):
        raise NetworkError(
            f"weights are '{weights}', but '{name}' has none by name; expected null, or a file "
            f"({', '.join(FILES)})"
        )
    if rest:
        model = _from_factory(name, num_classes, in_channels)
    else:
        model = _cifar_resnet(name, num_classes, in_channels)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def _cifar_resnet(name: str, num_classes: int, in_channels: int) -> nn.Module:
    base, dash, suffix = name.partition("-")
    depths = {f"resnet{depth}": depth for depth in CIFAR_RESNET_DEPTHS}
    if base not in depths or (dash and suffix != "half"):
        raise NetworkError(
            f"network is '{name}'; expected one of {', '.join(depths)}, any of these with "
            "'-half', 'torchvision:NAME', 'timm:NAME' or 'package.module:factory'"
        )
    return CifarResNet(depths[base], num_classes, in_channels, stem_stride=2 if dash else 1)


def module_type(name: str) -> type[nn.Module]:
    """The class called ``package.module:Class``.

    Raises:
        NetworkError: If it cannot be imported, or is no module's.
    """
    found = _imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise NetworkError(f"'{name}' is {found!r}; expected a class of nn.Module")
    return found


class CifarResNet(nn.Module):
    """ResNet for small images: three stages of 16, 32 and 64 channels.

    Source: He et al., Deep Residual Learning for Image Recognition, section 4.2. Deviates:
    shortcuts that change shape are 1 × 1 convolutions, not padding, so that stages may differ in
    width. They subsample first: a strided 1 × 1 convolution is the same function, but on CPUs
    without AVX-512 its gradient is wrong below 8 input channels (oneDNN issue 6035).
    ``stem_stride`` 2 halves the resolution at once.
    """

    def __init__(
        self, depth: int, num_classes: int, in_channels: int = 3, stem_stride: int = 1
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv = _conv3x3(in_channels, 16, stem_stride)
        self.norm = nn.BatchNorm2d(16)
        self.stage1 = _stage(16, 16, blocks, stride=1)
        self.stage2 = _stage(16, 32, blocks, stride=2)
        self.stage3 = _stage(32, 64, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        return self.head(self.pool(x).flatten(1))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.MaxPool2d(1, stride),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.shortcut(x), inplace=True)


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))


HAVE_AUXILIARY_HEADS = ("googlenet", "inception_v3")
"""Built without these heads, which run in training only and take no part in the product."""


def _torchvision(name: str, num_classes: int, in_channels: int, weights: str | None) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise _no_such("torchvision", name, known, "torchvision.models.list_models() names all")
    if in_channels != 3:
        raise NetworkError(
            f"torchvision:{name} takes images of 3 channels, not {in_channels}; "
            "set data.channels to 3"
        )
    options = {}
    if name in HAVE_AUXILIARY_HEADS:
        # Their pretrained weights expect images that the network itself normalises once more.
        transform_input = weights is not None
        options = {"aux_logits": False, "init_weights": True, "transform_input": transform_input}
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def _timm(name: str, num_classes: int, in_channels: int, weights: str | None) -> nn.Module:
    timm = _import_timm(name)
    known = timm.list_models()
    if name not in known:
        raise _no_such("timm", name, known, "timm.list_models() names all")
    options = {"num_classes": num_classes, "in_chans": in_channels}
    if weights is not None and not weights.endswith(FILES):
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
        if weights not in tags:
            raise NetworkError(
                f"timm has no weights '{weights}' for '{name}'; it has {', '.join(tags) or 'none'}"
                f", or give a file ({', '.join(FILES)})"
            )
        try:
            return timm.create_model(f"{name}.{weights}", pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise NetworkError(
                f"weights '{weights}' for 'timm:{name}' cannot be fetched: {error}"
            ) from error
    model = timm.create_model(name, pretrained=False, **options)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def _no_such(source: str, name: str, known: list[str], listing: str) -> NetworkError:
    close = get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"the closest are {', '.join(close)}" if close else listing
    return NetworkError(f"{source} has no network '{name}'; {hint}")


def _import_timm(name: str) -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise NetworkError(
            f"network 'timm:{name}' needs timm; run `pip install -e '.[timm]'` in the checkout"
        ) from error


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
