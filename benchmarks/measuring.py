"""How well few held-out images tell which widths of one cost are better.

    python -m benchmarks.measuring

takes the supernet of stage ``train`` and 240 width configurations around uniform ones, and measures
each on some of the images that training held out: by the cross-entropy to their labels, and by that
to the full network's predictions, which is what training measures by. Both are compared with loss
and error on ``val``, after what follows from the cost has been taken away. Prints Markdown.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import machine
from joslim import costs
from joslim.data.memory_images import unit_range
from joslim.front import Subnetworks
from joslim.search.cube import WidthCube
from joslim.supernet.batch_norm import batch_statistics
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.storage import load_supernet
from joslim.widths import Widths
from pipelines.artifacts.prepared_data import load_split
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.terminal.progress import track

CONFIGURATIONS = 240
DISTANCE = 0.3
"""Of each group from uniform widths, at most, as a fraction of its range."""
DEGREE = 4
"""Of the polynomial in the logarithm of the cost that says what follows from the cost."""
MEASURES = ("labels", "predictions")
TRUTHS = ("val loss", "val error")


def main() -> None:
    os.chdir(paths.root())
    params = read_params()
    network, _ = load_supernet(paths.SUPERNET)
    train, val = load_split("train"), load_split("val")
    subnetworks = Subnetworks(network, train, params.front.calibration_images)
    most = params.training.refresh_images
    held_out = train.subset(slice(most)).in_memory()
    images, cost = unit_range(held_out.images), costs.macs(network)
    counts = [most // 4, most // 2, most]
    found: dict[tuple[str | int, ...], list[float]] = {("cost",): []}
    for widths in track(_around_uniform(network), "measuring", CONFIGURATIONS):
        found["cost",].append(cost.fraction(widths))
        result = subnetworks.measure(subnetworks.get(widths), val)
        for name, value in zip(TRUTHS, (result.loss, 1 - result.top1), strict=True):
            found.setdefault((name,), []).append(value)
        for count in counts:
            goals = (held_out.labels[:count], _logits(network, images[:count]).softmax(dim=1))
            logits = _logits(network, images[:count], widths)
            for name, goal in zip(MEASURES, goals, strict=True):
                loss = F.cross_entropy(logits, goal).item()
                found.setdefault((name, count), []).append(loss)
    position = np.log(found.pop(("cost",)))
    left = {key: beyond_cost(position, np.array(values)) for key, values in found.items()}
    print("| images | by labels: loss on `val` | error | by predictions: loss on `val` | error |")
    print("|---:|---:|---:|---:|---:|")
    for count in counts:
        pairs = [(left[m, count], left[t,]) for m in MEASURES for t in TRUTHS]
        print(
            f"| {count} | " + " | ".join(f"{np.corrcoef(*pair)[0, 1]:.2f}" for pair in pairs) + " |"
        )
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _around_uniform(network: SlimmableNetwork) -> Iterator[Widths]:
    cube, generator = WidthCube(network.space), torch.Generator().manual_seed(0)
    half = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(CONFIGURATIONS):
        draw = torch.rand(1, cube.dimension + 1, generator=generator, dtype=torch.float64)
        X = (draw[:, :1] + DISTANCE * (2 * draw[:, 1:] - 1)).clamp(0, 1)
        yield cube.widths(cube.round(X, half)[0].tolist())


@torch.no_grad()
def _logits(
    network: SlimmableNetwork, images: torch.Tensor, widths: Widths | None = None
) -> torch.Tensor:
    with batch_statistics(network):
        return network(images, widths or network.space.full)


def beyond_cost(position: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What a polynomial in ``position``, the logarithm of the cost, leaves of ``values``."""
    return values - np.polyval(np.polyfit(position, values, DEGREE), position)


if __name__ == "__main__":
    main()
