"""How weights follow their gradients: SGD and its learning rate."""

import math

from torch import nn
from torch.optim import SGD, Optimizer

from joslim.config import TrainingConfig


def learning_rate_at(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Linear warm-up to the peak, then down to 0, along a half cosine or a line."""
    warmup = config.warmup_fraction * num_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / (num_steps - warmup)
    if config.learning_rate_decay == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(network: nn.Module, config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov momentum; no weight decay on biases and batch norm."""
    parameters = list(network.parameters())
    return SGD(
        [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": config.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )
