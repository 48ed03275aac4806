"""A training that takes seconds, and what is saved of its network."""

from pathlib import Path
from typing import Any

import torch

import joslim
from joslim import costs, search
from joslim.data import ImageSet
from joslim.supernet.spec import NetworkSpec
from joslim.training import Trainer, TrainingConfig

SHORT = {
    "epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 0.05,
    "warmup_fraction": 0.2, "weight_average": 0.0, "subnetwork_weight": 1.0,
    "distillation_weight": 1.0, "crop_padding": 1, "proposals_per_round": 2,
    "steps_per_proposal": 3, "refresh_images": 16, "refresh_fraction": 1.0,
}  # fmt: skip


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{**SHORT, **changes})


def data(num_images: int = 72) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, 1, 12, 12), generator=generator).byte()
    return ImageSet(images, torch.randint(0, 10, (num_images,), generator=generator))


def trainer(
    strategy_name: str = "joslim", images: ImageSet | None = None, **changes: Any
) -> Trainer:
    torch.manual_seed(0)
    model = joslim.networks.create("resnet8-half", 10, in_channels=1)
    network = joslim.slimmable(model, torch.zeros(2, 1, 12, 12))
    strategy = search.create(strategy_name, space=network.space, cost=costs.macs(network), seed=0)
    return Trainer(network, strategy, images or data(), config(**changes), seed=0)


def train_until(step: int, checkpoint: Path, **changes: Any) -> None:
    """Train up to ``step``, with a checkpoint every 4 steps."""
    for done in trainer(**changes).run(checkpoint, checkpoint_steps=4):
        if done.step == step:
            break


def spec(**changes: Any) -> NetworkSpec:
    values: dict[str, Any] = {
        "network": "resnet8-half", "num_classes": 10, "in_channels": 1, "image_size": 12,
        "mean": (0.3,), "std": (0.2,),
    }  # fmt: skip
    return NetworkSpec(**{**values, **changes})
