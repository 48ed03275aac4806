"""Seconds and bytes of a version in MLflow's registry, as their number grows.

    python -m benchmarks.registering --versions 200

Registers a network of ResNet-8 at half its width, and its sub-networks of random channel counts, in
a project of its own with MLflow's embedded database. Prints a Markdown table.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import machine
from joslim import costs
from joslim.budgets import parse_budget
from joslim.supernet import Configuration, save_slimmable
from joslim.supernet.spec import NetworkSpec
from pipelines import tracking
from pipelines.registry.lookup import SLIMMABLE, best_within, find_model
from pipelines.registry.records import connect
from pipelines.registry.registration import register
from pipelines.registry.submissions import Collection, Submission, Validation, digest_of_files

NAME = "joslim-benchmark"
SPEC = NetworkSpec("resnet8-half", 10, 1, 12, (0.3,), (0.2,), min_width=0.25)
WINDOW = 20
"""Versions whose median is shown."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--versions", type=int, default=200)
    count = parser.parse_args().versions
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.chdir(folder)
        Path("dvc.yaml").touch()
        times: list[float] = []

        def timed(items: Sequence[Submission], title: str, total: int) -> Iterator[Submission]:
            for item in items:
                times.append(time.perf_counter())
                yield item
            times.append(time.perf_counter())

        submissions = saved(count)
        with tracking.stage_run("register") as run:
            spec = SPEC.to_json()
            validation = Validation("none", 1000, guess=0.0)
            collection = Collection(
                NAME, submissions, spec, {}, validation, "nothing", lambda _: ""
            )
            register(collection, run, timed)
        end = time.perf_counter()
        records = connect()
        start = time.perf_counter()
        best_within(records, find_model(records, NAME), parse_budget("macs=1M"))
        lookup = time.perf_counter() - start
        seconds = [after - before for before, after in itertools.pairwise(times)]
        artifacts = sum(file.stat().st_size for file in Path("mlruns").rglob("*") if file.is_file())
        first, last = (statistics.median(part) for part in (seconds[:WINDOW], seconds[-WINDOW:]))
        print("| registering | |\n|---|---:|")
        print(f"| versions | {count} |")
        print(f"| a version, median of the first {WINDOW} | {first:.2f} s |")
        print(f"| … of the last {WINDOW} | {last:.2f} s |")
        print(f"| naming them as the current front | {(end - times[-1]) / count:.3f} s each |")
        print(f"| a lookup afterwards | {lookup:.3f} s |")
        print(f"| database | {Path('mlflow.db').stat().st_size / count / 1e3:.0f} kB each |")
        print(f"| files | {artifacts / count / 1e3:.0f} kB each |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def saved(count: int) -> list[Submission]:
    """A network and its sub-networks of different widths, in the working directory."""
    network = SPEC.build().eval()
    macs, generator = costs.macs(network), torch.Generator().manual_seed(0)
    configurations = []
    for i in range(count - 1):
        widths = network.space.random(generator)
        numbers = {"macs": float(macs(widths)), "val_top1": macs.fraction(widths)}
        configurations.append((Configuration(f"w-{i}", widths, numbers), network.extract(widths)))
    folder = Path("slimmable")
    save_slimmable(folder, network, SPEC, configurations, {})
    digest = digest_of_files(folder)
    whole = Submission(SLIMMABLE, SLIMMABLE, folder, digest, False, {}, {}, {}, "all weights")
    return [whole] + [
        Submission("front", one.id, folder, digest, True, one.numbers, {}, {}, one.id)
        for one, _ in configurations
    ]


if __name__ == "__main__":
    main()
