"""Train a network of your own once, and take the best sub-network for half of its cost.

    python examples/train_and_slice.py [FOLDER]

FOLDER holds the four files of Fashion-MNIST; without it they are those of Debian's package
dataset-fashion-mnist, or are downloaded. Takes two minutes on two cores.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import joslim
from joslim.front import Subnetworks, extract_front
from joslim.supernet import Subnetwork, save_subnetwork
from joslim.training import Trainer, TrainingConfig, use_suitable_threads


def small_net() -> nn.Module:
    """Any stock module that torch.fx can trace."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 32, 2), (32, 64, 2), (64, 64, 1)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def main(folder: Path | None) -> None:
    dataset = joslim.data.read(
        "fashion-mnist", folder, channels=1, image_size=28, download=Path("downloads")
    )
    images = joslim.data.split(dataset, val_fraction=0.1, test_fraction=0.1, seed=0)

    torch.manual_seed(0)
    spec = joslim.NetworkSpec(
        "small-net", 10, in_channels=1, image_size=28, mean=(0.3,), std=(0.4,)
    )
    network = spec.build(model=small_net())
    macs = joslim.costs.macs(network)
    search = joslim.search.create("joslim", space=network.space, cost=macs, seed=0)

    use_suitable_threads(network, batch_size=128)
    trainer = Trainer(network, search, images.train, TrainingConfig(epochs=1), seed=0)
    for step in trainer.run():
        if step.step % 100 == 0 or step.step == step.num_steps:
            print(f"step {step.step} of {step.num_steps}: loss {step.full_loss:.3f}")

    front = extract_front(network, search, images.train, images.val, num_proposals=20)
    for found in front:
        top1, cost = found.measurement.top1, macs.fraction(found.widths)
        print(f"widths {found.widths}: {cost:6.1%} of the MACs, {top1:.2%} of val right")

    half = [found for found in front if macs.fraction(found.widths) <= 0.5][-1]
    model = Subnetworks(network, images.train).get(half.widths)
    save_subnetwork(Path("half"), Subnetwork.of(network, spec, half.widths, model))
    loaded = joslim.load("half", small_net())
    top1 = joslim.evaluation.measure(loaded, images.test.batches(512)).top1
    print(f"saved in the folder 'half' and loaded again: {top1:.2%} of test right")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
