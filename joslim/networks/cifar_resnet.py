"""ResNets for small images, as for CIFAR."""

import torch.nn.functional as F
from torch import Tensor, nn

from joslim.errors import NetworkError

DEPTHS = (8, 14, 20, 32, 44, 56)


def cifar_resnet(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """``resnet8`` … ``resnet56``, and ``resnet8-half`` … ``resnet56-half``.

    Raises:
        NetworkError: If ``name`` is another.
    """
    base, dash, suffix = name.partition("-")
    depths = {f"resnet{depth}": depth for depth in DEPTHS}
    if base not in depths or (dash and suffix != "half"):
        raise NetworkError(
            f"network is '{name}'; expected one of {', '.join(depths)}, any of these with "
            "'-half', 'torchvision:NAME', 'timm:NAME' or 'package.module:factory'"
        )
    return CifarResNet(depths[base], num_classes, in_channels, stem_stride=2 if dash else 1)


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
