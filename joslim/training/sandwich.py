"""One step of the sandwich rule: the full network teaches its sub-networks."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from joslim import distributed
from joslim.config import Divergence
from joslim.machine.mixed_precision import autocast
from joslim.training.losses import distillation_loss
from joslim.widths import Widths


def sandwich_step(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    widths_list: Sequence[Widths],
    *,
    subnetwork_weight: float = 1.0,
    distillation_weight: float = 1.0,
    divergence: Divergence = "kl",
    label_smoothing: float = 0.0,
    teacher: nn.Module | None = None,
    precision: torch.dtype = torch.float32,
) -> tuple[float, ...]:
    """Accumulate the gradients of the full network and of some sub-networks on one batch.

    The full network learns from the labels, the sub-networks from its predictions, and from the
    labels by what ``distillation_weight`` leaves. Takes no optimiser step and does not zero
    gradients first.

    Args:
        network: A slimmable network in train mode, as it is or in `DistributedDataParallel`.
        images: ``(batch, channels, height, width)``.
        labels: ``(batch,)`` class indices.
        widths_list: The sub-networks: usually the smallest and the proposals.
        subnetwork_weight: Of a sub-network's gradient; the full network's has weight 1.
        distillation_weight: Share of the full network's predictions in a sub-network's loss, in
            [0, 1]; the labels get the rest.
        divergence: From the predictions that sub-networks learn from, as in `distillation_loss`.
        label_smoothing: In [0, 1), for losses on labels.
        teacher: Whose predictions sub-networks learn from instead of the full network's; it is in
            train mode, too, so that batch norm uses this batch's statistics.
        precision: Of convolutions and matrix products, as in `autocast`. Weights, their
            gradients and losses are float32.

    Returns:
        The full network's loss, then one per sub-network, not weighted.

    Source: Yu and Huang, Universally Slimmable Networks, 2019, algorithm 1. Deviates where a weight
    is not 1.
    """
    with distributed.no_sync(network) if widths_list else nullcontext():
        with autocast(images.device, precision):
            logits = network(images)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss.backward()
    losses = [loss.detach()]
    teacher_logits = logits.detach()
    if teacher is not None and widths_list:
        with torch.no_grad(), autocast(images.device, precision):
            teacher_logits = teacher(images).float()
    for count, widths in enumerate(widths_list, start=1):
        is_last = count == len(widths_list)
        with nullcontext() if is_last else distributed.no_sync(network):
            with autocast(images.device, precision):
                student_logits = network(images, widths)
            loss = distillation_loss(
                student_logits.float(),
                teacher_logits,
                labels,
                weight=distillation_weight,
                label_smoothing=label_smoothing,
                divergence=divergence,
            )
            (subnetwork_weight * loss).backward()
        losses.append(loss.detach())
    return tuple(distributed.all_reduce_mean(torch.stack(losses)).tolist())
