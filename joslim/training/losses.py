"""Training losses: labels for the full network, its own predictions for the sub-networks."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from joslim.config import Divergence

MAX_RATIO = 5.0
"""Of a sub-network's probability over its teacher's, in the α-divergence; AlphaNet's value."""


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    weight: float = 1.0,
    label_smoothing: float = 0.0,
    divergence: Divergence = "kl",
) -> Tensor:
    """Loss of a sub-network: its divergence from the teacher, mixed with that from the labels.

    Args:
        logits: ``(batch, classes)``.
        teacher_logits: ``(batch, classes)``, detached from the graph.
        labels: ``(batch,)`` class indices.
        weight: Share of the teacher in [0, 1]; 1 is in-place distillation as published.
        label_smoothing: Applied to the labels' share only.
        divergence: ``kl`` is the soft cross-entropy, which has the gradient of the
            Kullback-Leibler divergence; ``alpha`` is `adaptive_alpha_divergence`.

    Source: Yu and Huang, Universally Slimmable Networks, 2019, section 3.3.
    """
    if divergence == "kl":
        loss = weight * F.cross_entropy(logits, teacher_logits.softmax(1))
    else:
        loss = weight * adaptive_alpha_divergence(logits, teacher_logits)
    if weight < 1:
        labelled = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss = loss + (1 - weight) * labelled
    return loss


def adaptive_alpha_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The larger of two divergences from the teacher for each image; their mean, in nats.

    α = 1 is the Kullback-Leibler divergence, large where a sub-network misses what its teacher
    predicts; α = −1, half Pearson's χ², is large where it predicts what its teacher does not.

    Source: Wang et al., AlphaNet: Improved Training of Supernets with Alpha-Divergence, 2021,
    equations 5 to 7. Deviates where the ratio of probabilities is cut off at `MAX_RATIO`: it is
    constant there, which gives half of AlphaNet's gradient.
    """
    student, teacher = logits.log_softmax(1), teacher_logits.log_softmax(1)
    missed = (teacher.exp() * (teacher - student)).sum(1)
    ratio = (student - teacher).clamp(max=math.log(MAX_RATIO)).exp()
    invented = (student.exp() * (ratio - 1)).sum(1) / 2
    return torch.maximum(missed, invented).mean()
