"""Batch norm over the batches of all processes; PyTorch's own does it on GPUs only."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.local_sum import sum_


def synchronise_batchnorm_(model: nn.Module) -> None:
    """Let every batch norm of ``model`` in train mode use all processes' batches, in place.

    Those without running statistics (`joslim.calibration.batch_statistics`) stay on their own.
    """
    for module in model.modules():
        if type(module) in _SYNCED:
            module.__class__ = _SYNCED[type(module)]


class _Synced(_BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.track_running_stats and dist.is_initialized()):
            return super().forward(x)
        moments = torch.stack(_moments(x.detach()))
        mean, var = moments.double()  # as squares of means cancel below
        sums = torch.stack([mean, var + mean.square()])
        sum_(sums)
        mean, square = sums / dist.get_world_size()
        mean, var = torch.stack([mean, (square - mean.square()).clamp_min(0)]).to(moments)
        self._follow(mean, var, x.numel() // x.shape[1] * dist.get_world_size())
        return _Normalise.apply(x, mean, var, self.weight, self.bias, self.eps)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / (count - 1)), share)


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


class SyncedBatchNorm3d(_Synced, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes."""


_SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
}


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, in float32 or better.

    By the first half of batch norm's own kernel, which takes a tenth of `torch.var_mean`'s time on
    channels-last images; the running statistics that it wants are thrown away.
    """
    unused = x.new_zeros(2, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    mean, var = torch.ops.aten.batch_norm_update_stats(x, *unused, 0.0)
    return mean, var


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``scale * x + shift``, one of each per channel; batch norm's kernel does it fastest."""
    return F.batch_norm(x, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, eps=0.0)


class _Normalise(torch.autograd.Function):
    """With given statistics, which depend on all processes' ``x``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, mean, var, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, var, weight = ctx.saved_tensors
        gain = torch.ones_like(mean) if weight is None else weight
        scale = (var + ctx.eps).rsqrt()
        _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, gain, mean, var, mean, scale, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([for_bias, for_weight])
        sum_(sums)
        offset, slope = sums / (dist.get_world_size() * x.numel() / x.shape[1])
        tilt = (gain * scale * slope * scale).to(x.dtype)
        for_x = _affine(gradient, gain * scale, tilt * mean - gain * scale * offset)
        shape = [1, -1] + [1] * (x.dim() - 2)
        for_x.addcmul_(x, tilt.view(shape), value=-1)
        if weight is None:
            return for_x, None, None, None, None, None
        return for_x, None, None, for_weight, for_bias, None
