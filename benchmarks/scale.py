"""What MobileNetV2 on ImageNet would take on many GPUs: the tables of ``docs/guides/scale.md``.

    python -m benchmarks.scale

Counts are exact, processor times are measured here on one thread; GPU speeds are published ones.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks import machine, scale_inputs
from joslim import costs
from pipelines.settings.loading import read_params

RECIPE = Path("recipes/imagenet-mobilenet-v2.yaml")
IMAGES = 1_281_167
"""Of ImageNet's training set."""
GPUS = (1, 8, 64, 512)
SPEED = {0.35: 4789.43, 0.5: 4051.14, 0.75: 2609.91, 1.0: 2313.1}
"""Images per second that MobileNetV2 of these width multipliers trains on one RTX 3090.

Source: timm's ``results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speed", type=float, default=1.0, help="of a GPU, in RTX 3090s")
    parser.add_argument("--reduce", type=float, default=30, help="microseconds, a small all-reduce")
    parser.add_argument("--bandwidth", type=float, default=10, help="GB/s, a large all-reduce")
    given = parser.parse_args()
    torch.set_num_threads(1)
    params = read_params(RECIPE)
    training, least = params.training, params.network.min_width
    network = params.network_spec(1000).build()
    space, macs = network.space, costs.macs(network)

    evenly = torch.linspace(least, 1, 101).tolist()
    mean_macs = float(np.mean([macs(space.uniform(m)) for m in evenly]))
    passes, batch = 2 + training.proposals_per_step, training.batch_size
    step_macs = macs(space.full) + macs(space.smallest) + training.proposals_per_step * mean_macs
    left = int(IMAGES * (1 - params.data.val_fraction)) - training.refresh_images
    steps = training.epochs * (left // batch)
    rounds = -(-steps // training.steps_per_proposal)
    norms = sum(isinstance(module, _BatchNorm) for module in network.modules())
    gradient = 4 * sum(parameter.numel() for parameter in network.parameters())
    show(
        "counted",
        {
            "channel groups": f"{len(space)}",
            "forward MACs of an image, full network": f"{macs(space.full) / 1e6:.1f} M",
            "… smallest": f"{macs(space.smallest) / 1e6:.1f} M",
            "… mean of uniform widths": f"{mean_macs / 1e6:.1f} M",
            "… all networks of a step, over the full one's": f"{step_macs / macs(space.full):.2f}",
            "steps": f"{steps:,}",
            "rounds of proposals": f"{rounds}",
            "MACs of all steps (backward = 2 forward)": f"{3 * steps * batch * step_macs:.3g}",
            "float32 gradients": f"{gradient / 1e6:.1f} MB",
            "batch norms": f"{norms}",
            "… their all-reduces in a step": f"{2 * passes * norms}",
        },
    )

    middle = space.uniform(evenly[50])
    decoded, image_size = scale_inputs.decoding(params)
    proposal = scale_inputs.proposing(macs, network)
    checkpoint, weights, own = scale_inputs.sizes(network, middle, params)
    show(
        "measured on one thread",
        {
            f"images of {image_size / 1e3:.0f} kB decoded and augmented": f"{decoded:.0f} /s",
            "images through a sub-network of middle width": (
                f"{scale_inputs.forward(network, middle, params):.0f} /s"
            ),
            **{
                f"a proposal after {past:,} widths": f"{seconds:.2f} s"
                for past, seconds in zip(scale_inputs.PAST, proposal, strict=True)
            },
            "a checkpoint": f"{checkpoint / 1e6:.1f} MB",
            "the weights": f"{weights / 1e6:.1f} MB",
            "a configuration's statistics": f"{own / 1e3:.0f} kB",
        },
    )

    def seconds(width: float) -> float:
        """Of one GPU, to train a network of this width multiplier on an image."""
        return float(np.interp(width, list(SPEED), [1 / s for s in SPEED.values()])) / given.speed

    mean = float(np.mean([seconds(m) for m in evenly]))
    image = seconds(1.0) + seconds(least) + training.proposals_per_step * mean
    measuring = training.refresh_fraction * steps * batch * image
    searching = training.proposals_per_round * rounds * float(np.mean(proposal))
    print("| GPUs | of a step's images | steps | batch norm | gradients | re-measuring | search "
          "| all, h | GPU-hours | cores that decode |\n" + "|---:" * 10 + "|")  # fmt: skip
    for gpus in GPUS:
        norm = steps * 2 * passes * norms * given.reduce * 1e-6 if gpus > 1 else 0
        sums = steps * 2 * (1 - 1 / gpus) * gradient / (given.bandwidth * 1e9)
        shared = np.array([steps * batch * image, measuring]) / gpus
        hours = np.array([shared[0], norm, sums, shared[1], searching]) / 3600
        print(f"| {gpus} | {batch / gpus:g} | {' | '.join(f'{hour:.2f}' for hour in hours)} "
              f"| {hours.sum():.2f} | {gpus * hours.sum():,.0f} "
              f"| {gpus / image / decoded:,.0f} |")  # fmt: skip
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def show(title: str, rows: dict[str, str]) -> None:
    """Print a table of two columns."""
    print(f"| {title} | |\n|---|---:|")
    print("\n".join(f"| {key} | {value} |" for key, value in rows.items()) + "\n")


if __name__ == "__main__":
    main()
