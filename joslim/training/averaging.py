"""Weights averaged over the steps of training."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``network`` whose weights follow it by an exponential moving average.

    Args:
        decay: In [0, 1): after ``n`` steps, the smaller of it and (1 + n) / (10 + n) is what is
            kept of the average in one step, so that the first weights are soon forgotten.

    Source: `torch.optim.swa_utils`; the first steps as in TensorFlow's ExponentialMovingAverage.
    """

    def follow(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(kept)(averages, weights, count)

    copy = AveragedModel(network, multi_avg_fn=follow)
    return copy.requires_grad_(False)
