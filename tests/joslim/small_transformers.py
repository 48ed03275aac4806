"""Torchvision's transformers, small enough to run in float64, for images of 64 × 64 pixels."""

from collections.abc import Callable

from torch import nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

SIZE = 64


def vit(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> nn.Module:
    """With dropout inside of attention only: elsewhere it depends on the layout in memory."""
    del in_channels
    return VisionTransformer(SIZE, 16, 2, 4, 32, 64, 0.0, dropout, num_classes)


def swin(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0, **kwargs) -> nn.Module:
    """Stages of 16 × 16 and 8 × 8 positions, in windows of 7 × 7: padded, and shifted."""
    del in_channels
    return SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [7, 7], 4.0, dropout, dropout, 0.0, num_classes, **kwargs
    )


def swin_v2(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> nn.Module:
    kinds = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return swin(num_classes, in_channels, dropout, **kinds)


def maxvit(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> nn.Module:
    del in_channels
    return MaxVit(
        (SIZE, SIZE), 16, 2, [16, 32], [1, 1], 8, 0.0,
        mlp_dropout=dropout, attention_dropout=dropout, num_classes=num_classes,
    )  # fmt: skip


TRANSFORMERS: dict[str, Callable[..., nn.Module]] = {
    "vit": vit,
    "swin": swin,
    "swin_v2": swin_v2,
    "maxvit": maxvit,
}
