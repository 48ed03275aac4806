"""Measuring a dense network: accuracy, calibration error, confusion."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from joslim.modes import in_mode

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Measurement:
    """Results on one split.

    Attributes:
        loss: Mean cross-entropy, in nats.
        top1: Share of images whose label has the highest logit, in [0, 1].
        top5: Share of images whose label is among the five highest (fewer classes: 1).
        ece: Expected calibration error in [0, 1] over 15 equal bins of confidence (Guo et al., On
            Calibration of Modern Neural Networks, 2017).
        confusion: ``(classes, classes)`` counts; rows are labels, columns predictions.
    """

    loss: float
    top1: float
    top5: float
    ece: float
    confusion: Tensor

    def numbers(self) -> dict[str, float]:
        """Everything but the confusion matrix."""
        return {name: round(getattr(self, name), 6) for name in ("top1", "top5", "loss", "ece")}


def measure(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Measurement:
    """Measure ``model`` in eval mode over batches of images and labels, on the model's device."""
    return measurement(*predict(model, batches))


@torch.no_grad()
def predict(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The logits ``(n, classes)`` of ``model`` in eval mode, and the labels ``(n,)``, on the CPU.

    Args:
        model: Left in the mode that it is in.
        batches: Images and labels, on the model's device.
    """
    with in_mode(model, training=False):
        outputs = [(model(images).float(), labels) for images, labels in batches]
    logits = torch.cat([output for output, _ in outputs]).cpu()
    labels = torch.cat([label for _, label in outputs]).cpu()
    return logits, labels


def measurement(logits: Tensor, labels: Tensor) -> Measurement:
    """How good predictions are: ``(n, classes)`` logits and ``(n,)`` class indices."""
    num_classes = logits.shape[1]
    best = logits.topk(min(5, num_classes)).indices
    hits = best == labels[:, None]
    confusion = torch.bincount(labels * num_classes + best[:, 0], minlength=num_classes**2)
    return Measurement(
        loss=F.cross_entropy(logits, labels).item(),
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item(),
        ece=_calibration_error(logits.softmax(1).amax(1), hits[:, 0]),
        confusion=confusion.view(num_classes, num_classes),
    )


def _calibration_error(confidence: Tensor, hit: Tensor) -> float:
    bins = (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)
    gap = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    gap.index_add_(0, bins, hit.double() - confidence.double())
    return (gap.abs().sum() / len(hit)).item()
