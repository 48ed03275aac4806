"""Training one sub-network on, after it was taken out of the supernet."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from joslim.config import TrainingConfig
from joslim.data import Images, TrainingStream
from joslim.evaluation import measure
from joslim.machine.device import training_device, training_precision
from joslim.machine.memory_format import fast_memory_format
from joslim.machine.mixed_precision import autocast, suited_to_autocast
from joslim.training.losses import distillation_loss
from joslim.training.optimizer import learning_rate_at, make_optimizer

CHECKS = 4
"""The validation split is looked at this many times, evenly spread."""
VAL_BATCH = 512


@dataclass(frozen=True)
class FinetuneStep:
    """What happened in one step of fine-tuning.

    Attributes:
        step: Steps done, from 1.
        num_steps: Steps in all.
        loss: Of this step, in nats.
        val_top1: The best validation top-1 so far, that of before the first step included.
    """

    step: int
    num_steps: int
    loss: float
    val_top1: float


def finetune(
    model: nn.Module,
    train: Images,
    val: Images,
    config: TrainingConfig,
    *,
    epochs: float,
    learning_rate: float,
    seed: int,
    parameters: Collection[str] | None = None,
    teacher: nn.Module | None = None,
    distillation_weight: float = 0.0,
) -> Iterator[FinetuneStep]:
    """Train ``model`` in place, and leave it at its best validation top-1.

    Never ends worse on ``val`` than it began: the weights before fine-tuning compete too. ``val``
    is measured in float32.

    Args:
        model: Dense; images in [0, 1] to logits. Moves to the GPU if there is one, and stays.
        train: What to train on.
        val: What to choose the best moment by.
        config: Batch size, precision, augmentation, momentum, decay and smoothing are as for the
            supernet.
        epochs: Passes over ``train``; may be a fraction.
        learning_rate: Falls to 0 along a half cosine.
        seed: Decides order and augmentation of the batches.
        parameters: Names of those that are trained; the others stay as they are. None: all.
        teacher: A network whose predictions are learned too, as the full network; it stays as it
            is.
        distillation_weight: Share of the teacher in the loss, in [0, 1]; the labels get the rest.
    """
    config = config.model_copy(
        update={
            "learning_rate": learning_rate,
            "learning_rate_decay": "cosine",
            "warmup_fraction": 0.0,
        }
    )
    device = training_device()
    precision = training_precision(config.precision, device)
    stream = TrainingStream(
        train, config.batch_size, seed=seed, augmentation=config.augmentation, device=device
    )
    num_steps = max(1, round(epochs * stream.steps_per_epoch))
    checks = {round(num_steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    layout = fast_memory_format(model)
    model.to(device).to(memory_format=layout)
    trained = suited_to_autocast(model, device, precision)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameters is None or name in parameters)
    optimizer = make_optimizer(model, config)
    if teacher is not None:
        teacher = suited_to_autocast(teacher.to(device).eval(), device, precision)

    def top1() -> float:
        return measure(model, val.batches(VAL_BATCH, device)).top1

    def snapshot() -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    val_top1, best = top1(), snapshot()
    for step in range(1, num_steps + 1):
        torch.manual_seed(seed + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step - 1, num_steps, config)
        images, labels = stream.batch(step - 1)
        trained.train()
        with autocast(device, precision):
            logits = trained(images.to(memory_format=layout))
        if teacher is None:
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        else:
            with torch.no_grad(), autocast(device, precision):
                targets = teacher(images.to(memory_format=layout))
            loss = distillation_loss(
                logits.float(),
                targets.float(),
                labels,
                weight=distillation_weight,
                label_smoothing=config.label_smoothing,
            )
        optimizer.zero_grad()
        loss.backward()
        if config.max_gradient_norm is not None:
            clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        if step in checks and (latest := top1()) > val_top1:
            val_top1, best = latest, snapshot()
        yield FinetuneStep(step, num_steps, loss.item(), val_top1)
    model.load_state_dict(best)
    model.eval()
