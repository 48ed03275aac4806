"""What re-measuring a share of the past width configurations costs, and what it gives up.

    python -m benchmarks.refresh

trains with the settings of params.yaml on the images prepared by stage ``prepare``. At every round
it also measures all past width configurations under the same weights, which the training does not
see, and compares: rank correlation over all, the same after what follows from the cost has been
taken away, and the median error of those that were corrected instead of measured. Prints a
Markdown table by quarter of the training.
"""

import os
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.measuring import beyond_cost
from joslim import search
from joslim.search import Strategy
from joslim.supernet.network import SlimmableNetwork
from joslim.training.refresh import refresh_history
from joslim.training.trainer import Trainer
from joslim.widths import Widths
from pipelines.artifacts.prepared_data import DataInfo
from pipelines.building import make_trainer
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.terminal.progress import track


def main() -> None:
    os.chdir(paths.root())
    params, info = read_params(), DataInfo.load()
    trainer = make_trainer(params, params.network_spec(len(info.classes), info.mean, info.std))
    rounds, share = compare(trainer)
    rounds["quarter"] = (4 * rounds["step"] // trainer.num_steps + 1).clip(upper=4)
    print("| quarter of the training | past widths | measured | rank correlation | beyond cost "
          "| error, nats |\n|---|---:|---:|---:|---:|---:|")  # fmt: skip
    for quarter, found in rounds.groupby("quarter"):
        past, measured = found["past"].mean(), found["measured"].mean()
        print(
            f"| {quarter} | {past:.0f} | {measured:.1f} | {found['correlation'].median():.3f} "
            f"| {found['of_shapes'].median():.3f} | {found['error'].median():.4f} |"
        )
    print(f"\nshare of the time, with the end's: {share:.1%}")
    print(", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def compare(trainer: Trainer) -> tuple[pd.DataFrame, float]:
    """Each round's refresh beside a full one; the former's share of the time without the latter."""
    rounds: list[dict[str, float]] = []
    measuring = aside = 0.0

    def watched(
        network: SlimmableNetwork,
        strategy: Strategy,
        visited: Sequence[Widths],
        images: Tensor,
        *,
        max_macs: float,
    ) -> list[Widths]:
        nonlocal measuring, aside
        start = time.perf_counter()
        order = refresh_history(network, strategy, visited, images, max_macs=max_macs)
        seconds = time.perf_counter() - start
        measuring += seconds
        if trainer.step < trainer.num_steps and len(order) > 20:
            whole = search.create("slim", space=strategy.space, cost=strategy.cost, seed=0)
            refresh_history(network, whole, order, images)
            told = dict(zip(strategy.history.widths, strategy.history.losses.tolist(), strict=True))
            rounds.append(compared(told, whole) | {"step": trainer.step})
        aside += time.perf_counter() - start - seconds
        return order

    def compared(told: dict[Widths, float], whole: Strategy) -> dict[str, Any]:
        true = whole.history.losses.tolist()
        both = pd.DataFrame({"told": [told[w] for w in whole.history.widths], "true": true})
        differences = (both["told"] - both["true"]).abs()
        counts = torch.tensor(whole.history.widths, dtype=torch.float64)
        position = whole.cost.fraction(counts).log().numpy()
        left = both.apply(lambda losses: beyond_cost(position, losses.to_numpy()))
        corrected = differences[differences > 0]
        return {
            "past": len(both),
            "measured": len(both) - len(corrected),
            "correlation": both.corr("spearman").loc["told", "true"],
            "of_shapes": left.corr("spearman").loc["told", "true"],
            "error": corrected.median(),
        }

    start = time.perf_counter()
    with patch("joslim.training.trainer.refresh_history", watched):
        for _ in track(trainer.run(), "training", position=lambda p: (p.step, p.num_steps)):
            pass
    return pd.DataFrame(rounds), measuring / (time.perf_counter() - start - aside)


if __name__ == "__main__":
    main()
