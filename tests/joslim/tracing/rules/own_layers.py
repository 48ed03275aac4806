"""Layers as own code and timm write them: all of their 12 to 16 channels can move."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandardisedConv(nn.Conv2d):
    def __init__(self, *args: int, **kwargs: int):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = F.batch_norm(rows, None, None, weight=self.gain.view(-1), training=True)
        weight = rows.reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class SamePadding(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        height, width = x.size()[-2:]
        kernel = self.weight.shape[-1]
        right = max((-(width // -self.stride[0]) - 1) * self.stride[0] + kernel - width, 0)
        x = F.pad(x, (right // 2, right - right // 2, 1 if height > 4 else 0, 1))
        return F.conv2d(x, self.weight, self.bias, self.stride)


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        weights = self.running_mean, self.running_var, self.weight, self.bias
        return F.batch_norm(x, *weights, self.training).relu_()


class GroupNormAct(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias)
        return x.permute(0, 3, 1, 2)


class Blur(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels = 12
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3).repeat(12, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, [1] * 4, mode="reflect"), self.kernel, groups=self.channels)


class ResponseNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(12)), nn.Parameter(torch.rand(12))
        self.shape = (1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        norms = x.norm(p=2, dim=(2, 3), keepdim=True)
        norms = norms / (norms.mean(dim=1, keepdim=True) + 1e-6)
        return x + torch.addcmul(
            self.shift.view(self.shape), self.scale.view(self.shape), x * norms
        )


class Projection(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(12, 12)), nn.Parameter(torch.rand(12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class Thirds(nn.Module):
    """Branches that each read ``width`` of the channels, as in Res2Net."""

    def __init__(self):
        super().__init__()
        self.width = 4
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = torch.split(x, self.width, 1)
        return torch.cat([self.convs[0](first), self.convs[1](second), third], 1)


class Uneven(nn.Module):
    """Kernels of several sizes side by side, as in MixNet."""

    def __init__(self):
        super().__init__()
        self.splits = [4, 6, 2]
        self.convs = nn.ModuleList(
            nn.Conv2d(n, n, k, padding="same", groups=n)
            for n, k in zip(self.splits, (1, 3, 5), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.split(self.splits, dim=1)
        return torch.cat([conv(piece) for conv, piece in zip(self.convs, pieces, strict=True)], 1)


class Halves(nn.Module):
    """A stage that half of the channels go around, as in CSPNet."""

    def __init__(self):
        super().__init__()
        self.expanded = 16
        self.expand, self.conv = nn.Conv2d(12, 16, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        around, through = self.expand(x).split(self.expanded // 2, dim=1)
        return torch.cat([around, self.conv(through).relu()], 1)


class Ghost(nn.Module):
    """More channels than are kept, as in GhostNet; the kept ones are cut once more, as in DPN."""

    def __init__(self):
        super().__init__()
        self.kept, self.shortcut = 15, 4
        self.cheap = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.conv = nn.Conv2d(12, 15, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, self.cheap(x)], 1)[:, : self.kept] + self.conv(x)
        return torch.cat([y[:, : self.shortcut] * 2, y[:, self.shortcut :]], 1)


class Selective(nn.Module):
    """Attention over two branches, as in selective kernels."""

    def __init__(self):
        super().__init__()
        self.paths = nn.ModuleList(nn.Conv2d(12, 12, k, padding=k // 2) for k in (1, 3))
        self.attend = nn.Conv2d(12, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([path(x) for path in self.paths], 1)
        batch, _, channels, *_ = y.shape
        weights = self.attend(y.sum(1).mean((2, 3), keepdim=True))
        weights = torch.softmax(weights.view(batch, len(self.paths), channels, 1, 1), 1)
        first, second = (y * weights).unbind(1)
        return first + second.max(dim=2, keepdim=True)[0]


class Rows(nn.Module):
    """Channels written down by name, and as another tensor's shape."""

    def __init__(self):
        super().__init__()
        self.channels, self.shape = 12, (12, 1, 1)
        self.scale = nn.Parameter(torch.rand(12))

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.shape[1] == self.channels, "wrong number of channels")
        rows = x.view(x.shape[0], self.channels, 36).tanh()
        spread = rows.std(dim=2, keepdim=True)[..., None].expand(x.shape)
        return rows.reshape(x.shape) + spread * self.scale.view(self.shape)


class Heads(nn.Module):
    """Attention that cuts its channels by named numbers, as in timm's transformers."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = 4, 3, 12
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, _, height, width = x.shape
        x = x.flatten(2).transpose(1, 2)
        heads = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, self.head_dim)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.proj(x.transpose(1, 2).reshape(batch, height * width, self.attn_dim))
        return x.transpose(1, 2).unflatten(2, (height, width))


FOLLOWED: dict[str, Callable[[], nn.Module]] = {
    "standardised weights": lambda: StandardisedConv(12, 12, 3, padding=1),
    "standardised weights in groups": lambda: StandardisedConv(12, 12, 3, padding=1, groups=3),
    "padding by the size of the image": lambda: SamePadding(12, 12, 3, stride=2),
    "batch norm with activation": lambda: NormAct(12),
    "group norm with activation": lambda: GroupNormAct(4, 12),
    "group norm of one group": lambda: nn.Sequential(nn.GroupNorm(1, 12), GroupNormAct(1, 12)),
    "layer norm of channels": lambda: LayerNorm2d(12),
    "blur": Blur,
    "global response norm": ResponseNorm,
    "bare weights": Projection,
    "even splits": Thirds,
    "uneven splits": Uneven,
    "splits of a half": Halves,
    "first and last channels": Ghost,
    "attention over branches": Selective,
    "named sizes": Rows,
    "named heads": Heads,
}
