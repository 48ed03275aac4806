"""Stock attention in code that asks its tensors how many heads there are, and how wide they embed.

Each class takes the place of its stock class (`joslim.tracing.rewrites`): same parameters and
buffers under the same names, same results. The stock code writes the number of heads and the length
of the embedding down; here whole heads may be missing, and some of the embedding. What a head
computes does not change: it keeps its ``D`` channels, and is scaled by them.

Shape legend: ``B`` images, ``L`` positions, ``C`` embedding, ``H`` heads of ``D`` channels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torchvision.models import maxvit, swin_transformer, vision_transformer


class SelfAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` of a sequence with itself: ``(B, L, C)`` to ``(B, L, C)``."""

    @property
    def embed_dim(self) -> int:
        """Length of the embedding now."""
        return self.in_proj_weight.shape[1]

    @property
    def num_heads(self) -> int:
        """Heads that are there."""
        return self.in_proj_weight.shape[0] // (3 * self.head_dim)

    @staticmethod
    def is_exact(layer: nn.Module) -> bool:
        """Whether ``layer`` does no more than what stands here."""
        assert isinstance(layer, nn.MultiheadAttention)
        return (
            layer.batch_first
            and layer._qkv_same_embed_dim
            and layer.bias_k is None
            and not layer.add_zero_attn
            and type(layer.out_proj) is NonDynamicallyQuantizableLinear
        )

    @staticmethod
    def covers(
        query: object,
        key: object,
        value: object,
        key_padding_mask: object = None,
        need_weights: bool = True,
        attn_mask: object = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> bool:
        """Whether a call is plain self-attention; any other runs as the stock layer runs it."""
        del average_attn_weights
        is_self = query is key and key is value
        is_masked = key_padding_mask is not None or attn_mask is not None or is_causal
        return is_self and not is_masked and not need_weights

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        if not self.covers(query, key, value, *args, **kwargs):
            return super().forward(query, key, value, *args, **kwargs)
        x = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = _heads(x, self.head_dim).unbind(-3)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout * self.training)
        del q, k, v
        return self.out_proj(x.transpose(-3, -2).flatten(-2)), None


class VisionTransformer(vision_transformer.VisionTransformer):
    """Torchvision's ViT, which otherwise reshapes its patches to an embedding of fixed length."""

    @property
    def hidden_dim(self) -> int:
        """Length of the embedding now."""
        return self.class_token.shape[-1]

    def _process_input(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        torch._assert(height == self.image_size, f"height is {height}; not {self.image_size}")
        torch._assert(width == self.image_size, f"width is {width}; not {self.image_size}")
        return self.conv_proj(x).flatten(2).permute(0, 2, 1)


class WindowAttention(swin_transformer.ShiftedWindowAttention):
    """Swin's attention inside of windows: ``(B, height, width, C)`` to the same shape."""

    head_dim: int

    def adopt(self) -> None:
        """Note the length of a head, which the stock layer computes from their number."""
        self.head_dim = self.qkv.out_features // (3 * vars(self)["num_heads"])

    @property
    def num_heads(self) -> int:
        """Heads that are there."""
        return self.qkv.weight.shape[0] // (3 * self.head_dim)

    @staticmethod
    def is_exact(layer: nn.Module) -> bool:
        """Whether ``layer`` does no more than what stands here."""
        return type(layer.qkv) is type(layer.proj) is nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        down, across = self.window_size
        x = F.pad(x, (0, 0, 0, -width % across, 0, -height % down))
        _, padded_height, padded_width, _ = x.shape
        rows, columns = padded_height // down, padded_width // across
        is_shifted = sum(self.shift_size) > 0
        if is_shifted:
            shift = [
                possible_shift(size, window, wanted)
                for size, window, wanted in zip(
                    (padded_height, padded_width), self.window_size, self.shift_size, strict=True
                )
            ]
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = x.unflatten(2, (columns, across)).unflatten(1, (rows, down))
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(0, 2)
        q, k, v = _heads(self.project(x), self.head_dim).contiguous().unbind(-3)
        fits = self.compare(q, k) + self.get_relative_position_bias()
        if is_shifted:
            mask = shift_mask(x, rows, columns, self.window_size, shift)
            fits = (fits.unflatten(0, (-1, rows * columns)) + mask).flatten(0, 1)
        fits = F.dropout(F.softmax(fits, dim=-1), p=self.attention_dropout, training=self.training)
        x = fits.matmul(v).transpose(1, 2).flatten(2)
        del q, k, v, fits
        x = F.dropout(self.proj(x), p=self.dropout, training=self.training)
        x = x.unflatten(0, (-1, rows, columns)).unflatten(3, (down, across))
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
        if is_shifted:
            x = torch.roll(x, (shift[0], shift[1]), (1, 2))
        return x[:, :height, :width, :].contiguous()

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side: ``(…, L, 3 · H · D)``."""
        return self.qkv(x)

    def compare(self, q: Tensor, k: Tensor) -> Tensor:
        """How well queries and keys fit, both ``(…, H, L, D)``: ``(…, H, L, L)``."""
        return (q * self.head_dim**-0.5).matmul(k.transpose(-2, -1))

    def get_relative_position_bias(self) -> Tensor:
        return self.look_up(self.relative_position_bias_table)

    def look_up(self, table: Tensor) -> Tensor:
        """What ``table``, ``(offsets, H)``, says of each pair of positions: ``(1, H, L, L)``."""
        length = self.window_size[0] * self.window_size[1]
        pairs = table[self.relative_position_index].view(length, length, -1)
        return pairs.permute(2, 0, 1).contiguous().unsqueeze(0)


class WindowAttentionV2(WindowAttention, swin_transformer.ShiftedWindowAttentionV2):
    """Swin v2's window attention: cosines instead of products, keys without bias."""

    def project(self, x: Tensor) -> Tensor:
        if self.qkv.bias is None:
            return self.qkv(x)
        q, k, v = self.qkv.bias.chunk(3)
        return F.linear(x, self.qkv.weight, torch.cat([q, torch.zeros_like(k), v]))

    def compare(self, q: Tensor, k: Tensor) -> Tensor:
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return cosines * torch.clamp(self.logit_scale, max=math.log(100.0)).exp()

    def get_relative_position_bias(self) -> Tensor:
        table = self.cpb_mlp(self.relative_coords_table).flatten(0, 2)
        return 16 * torch.sigmoid(self.look_up(table))


class PatchMerging(swin_transformer.PatchMerging):
    """Swin's step to half the resolution: ``(B, height, width, C)``, four neighbours as one."""

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(_neighbours(x)))


class PatchMergingV2(swin_transformer.PatchMergingV2):
    """Swin v2's step to half the resolution."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(_neighbours(x)))


class RelativeAttention(maxvit.RelativePositionalMultiHeadAttention):
    """MaxViT's attention inside of windows or grids: ``(B, windows, L, C)`` to the same shape."""

    @property
    def n_heads(self) -> int:
        """Heads that are there."""
        return self.to_qkv.weight.shape[0] // (3 * self.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self.to_qkv(x), self.head_dim).contiguous().unbind(-3)
        fits = q.matmul((k * self.scale_factor).transpose(-2, -1))
        fits = F.softmax(fits + self.get_relative_positional_bias(), dim=-1)
        return self.merge(fits.matmul(v).transpose(-3, -2).flatten(-2))


def _heads(x: Tensor, head_dim: int) -> Tensor:
    """Queries, keys and values of each head: ``(…, L, 3 · H · D)`` to ``(…, H, 3, L, D)``.

    A view; made contiguous, it saves a copy in each matrix product.
    """
    return x.unflatten(-1, (3, -1, head_dim)).transpose(-4, -2)


def _neighbours(x: Tensor) -> Tensor:
    """Each 2 × 2 positions as one of ``4 · C`` channels; column by column, as torchvision does."""
    _, height, width, _ = x.shape
    x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    quarters = [x[..., i::2, j::2, :] for j in range(2) for i in range(2)]
    return torch.cat(quarters, -1)


@fx.wrap
def possible_shift(size: int, window: int, wanted: int) -> int:
    """Positions by which windows move; none if one window covers all."""
    return 0 if window >= size else wanted


@fx.wrap
def shift_mask(x: Tensor, rows: int, columns: int, window: list[int], shift: list[int]) -> Tensor:
    """Keep positions apart that only a cyclic shift made neighbours.

    Args:
        x: Of the type and device of the mask.
        rows: Windows from top to bottom.
        columns: From left to right.
        window: Height and width.
        shift: Down and across.

    Returns:
        What to add to the logits, 0 or −100: ``(windows, 1, L, L)``.
    """
    down, across = (x.new_zeros(n * w) for n, w in zip((rows, columns), window, strict=True))
    for region, size, moved in zip((down, across), window, shift, strict=True):
        region[-size:] = 1
        region[-moved:] = 2
    regions = (3 * down.unsqueeze(1) + across).view(rows, window[0], columns, window[1])
    regions = regions.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    differ = regions.unsqueeze(1) != regions.unsqueeze(2)
    return x.new_zeros(differ.shape).masked_fill_(differ, -100.0).unsqueeze(1)
