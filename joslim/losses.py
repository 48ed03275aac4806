"""Training losses: labels for the full network, its own predictions for the sub-networks."""

import torch.nn.functional as F
from torch import Tensor


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Loss of a sub-network: soft cross-entropy to the teacher, mixed with that to the labels.

    Args:
        logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``, detached from the graph.
        labels: ``(batch,)`` class indices.
        weight: Share of the teacher in [0, 1]; 1 is in-place distillation as published.
        label_smoothing: Applied to the labels' share only.

    Source: Yu and Huang, Universally Slimmable Networks, 2019, section 3.3.
    """
    loss = weight * F.cross_entropy(logits, teacher_logits.softmax(1))
    if weight < 1:
        labelled = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss = loss + (1 - weight) * labelled
    return loss
