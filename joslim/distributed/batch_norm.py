"""Batch norm over the batches of all processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.distributed.processes import world_size
from joslim.twins import twin


def with_joint_batchnorm(network: nn.Module) -> nn.Module:
    """A twin of ``network`` whose batch norms use all processes' batches in train mode.

    It shares all parameters and buffers with ``network``, whose own batch norms stay as they are;
    where there is one process, it is ``network``. On GPUs, `nn.SyncBatchNorm` does it; that refuses
    CPUs, where `JointBatchNorm` does.
    """
    if world_size() == 1:
        return network
    on_gpu = any(parameter.is_cuda for parameter in network.parameters())
    kind = _SyncBatchNorm if on_gpu else JointBatchNorm

    def replacement(module: nn.Module) -> type[nn.Module] | None:
        return kind if type(module) in _STOCK else None

    return twin(network, replacement)


_STOCK = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _SyncBatchNorm(nn.SyncBatchNorm):
    process_group = None


class JointBatchNorm(_BatchNorm):
    """Batch norm over all processes, whose batches are equally large."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _AllReduce.apply(precise.mean(dims)) / world_size()
        centred = precise - mean.view(shape)
        var = _AllReduce.apply(centred.square().mean(dims)) / world_size()
        self._update_running_stats(mean.detach(), var.detach(), x.numel() // x.shape[1])
        scale = (var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        y = centred * scale.view(shape)
        return (y if self.bias is None else y + self.bias.view(shape)).to(x.dtype)

    def _update_running_stats(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / self.num_batches_tracked.item()
        count *= world_size()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * count / (count - 1), share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of positions."""


class _AllReduce(torch.autograd.Function):
    """The sum over all processes, and of their gradients on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduce.apply(gradient)
