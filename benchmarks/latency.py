"""How well latency is predicted: against whole forward passes of sub-networks that no fit has seen.

    python -m benchmarks.latency

Prints a Markdown table. Measured on one thread, as everywhere in this project.
"""

import statistics
import time

import torch

import joslim
from benchmarks import machine
from joslim.costs import latency
from joslim.machine.timing import time_models

CASES = (("resnet18", 224), ("mobilenet_v2", 224), ("resnet18", 64), ("mobilenet_v2", 64))
NUM_WIDTHS = 20
REPEATS = 9


def main() -> None:
    print("| network | image | full network | table says | median error | largest | measured in |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, size in CASES:
        print(row(name, size), flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def row(name: str, size: int) -> str:
    """Measure a table, then compare its predictions for random widths with measurements."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, size, size)
    network = joslim.slimmable(joslim.networks.create(f"torchvision:{name}", 1000), image)
    start = time.perf_counter()
    table = latency.measure(network)
    seconds = time.perf_counter() - start
    predicted = latency.Latency(network, table)
    generator = torch.Generator().manual_seed(1)
    drawn = (network.space.random(generator) for _ in range(NUM_WIDTHS))
    found = time_models({w: network.extract(w) for w in drawn}, image, repeats=REPEATS)
    errors = [abs(predicted(w) / timing.milliseconds - 1) for w, timing in found.items()]
    return (
        f"| `{name}` | {size} | {predicted.full:.1f} ms | {table.median_error:.1%} "
        f"| {statistics.median(errors):.1%} | {max(errors):.1%} | {seconds:.0f} s |"
    )


if __name__ == "__main__":
    main()
