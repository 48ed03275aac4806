"""How near to the best front searches come, where that front is known exactly.

    python -m benchmarks.synthetic

The loss falls with every width, by an amount and at a rate of the group's own; the cost is linear.
So the best widths for every cost follow from one Lagrange multiplier. Every method observes 100
width configurations, two at a time, and is worth the hypervolume that they leave uncovered.
``random`` draws each group's width by itself; ``qlognehvi`` is BoTorch's, with a model of both
objectives, started from Joslim's own first proposals. Finished cases stand in
``benchmarks/results/synthetic.json`` and are not run again. Prints a Markdown table.
"""

import json
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.exceptions import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import SumMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from benchmarks import machine
from joslim import pareto, search
from joslim.costs import Cost
from joslim.search.cube import WidthCube
from joslim.tracing import Part, Product
from joslim.widths import ChannelGroup, Widths, WidthSpace

RESULTS = Path(__file__).parent / "results" / "synthetic.json"
GROUPS = (12, 24, 60)
SEEDS = (0, 1, 2)
METHODS = ("random", "joslim", "tpe", "qlognehvi")
OBSERVATIONS, INITIAL, PER_ROUND = 100, 20, 2
CHANNELS, SMALLEST, DIVISOR = 128, 53, 4
NOISE = 0.002
"""Standard deviation of an observed loss; losses run from about 0 to 1."""


class Problem:
    """Loss and cost of widths, and the best front."""

    def __init__(self, groups: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        names = [f"group{i}" for i in range(groups)]
        self.space = WidthSpace(
            tuple(ChannelGroup(name, CHANNELS, SMALLEST, DIVISOR, (name,)) for name in names)
        )
        draw = torch.rand(3, groups, generator=generator, dtype=torch.float64)
        self.weight = 10 ** (draw[0] - 0.5)
        self.weight /= self.weight.sum()
        self.rate = 2 + 6 * draw[1]
        self.price = 10 ** (draw[2] - 0.5)
        terms = [
            Product(price, ((Part(i, 1, CHANNELS),),))
            for i, price in enumerate(self.price.tolist())
        ]
        self.cost = Cost("price", self.space, terms)
        self.cube = WidthCube(self.space)
        self._noise = generator

    def loss(self, X: Tensor) -> Tensor:
        """At points of the unit cube ``(n, d)``: ``(n,)``, in [0, 1]."""
        gone = torch.exp(-self.rate * X) - torch.exp(-self.rate)
        return gone @ (self.weight / (1 - torch.exp(-self.rate)))

    def observe(self, widths: Widths) -> float:
        """The loss, with noise."""
        noise = NOISE * torch.randn((), generator=self._noise).item()
        return self.loss(self.cube.encode([widths])).item() + noise

    def hypervolume(self, X: Tensor) -> float:
        """Of true losses and cost fractions at ``X (n, d)``, below (1, 1)."""
        costs = self.cost.fraction(self.cube.channels(X))
        return pareto.hypervolume(self.loss(X), costs, (1.0, 1.0))

    def best(self) -> float:
        """The hypervolume of the best front, from 2,000 points on it."""
        slope = self.rate * self.weight / (1 - torch.exp(-self.rate)) / self.price
        steps = torch.linspace(-1, 1, 2000, dtype=torch.float64).unsqueeze(1)
        low, high = (slope * torch.exp(-self.rate)).min().log(), slope.max().log()
        multiplier = (low + (steps + 1) / 2 * (high - low)).exp()
        return self.hypervolume((torch.log(slope / multiplier) / self.rate).clamp(0, 1))


def main() -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = {(row["groups"], row["seed"], row["method"]) for row in rows}
    for method, groups, seed in product(METHODS, GROUPS, SEEDS):
        if (groups, seed, method) not in known:
            rows.append(run(groups, seed, method))
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(rows[-1], flush=True)
    print(summary(pd.DataFrame(rows)))
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def run(groups: int, seed: int, method: str) -> dict[str, Any]:
    """Observe as many width configurations as ``method`` may, and compare with the best front."""
    problem = Problem(groups, seed)
    start = time.perf_counter()
    observed = {"random": _random, "qlognehvi": _botorch}.get(method, _strategy)(
        problem, seed, method
    )
    seconds = time.perf_counter() - start
    X = problem.cube.encode(observed)
    regret = problem.best() - problem.hypervolume(X)
    return {
        "groups": groups, "seed": seed, "method": method, "regret": regret,
        "seconds_per_proposal": seconds / (OBSERVATIONS - INITIAL),
    }  # fmt: skip


def _random(problem: Problem, seed: int, method: str) -> list[Widths]:
    generator = torch.Generator().manual_seed(seed)
    return [problem.space.random(generator) for _ in range(OBSERVATIONS)]


def _strategy(problem: Problem, seed: int, method: str) -> list[Widths]:
    strategy = search.create(
        method, space=problem.space, cost=problem.cost, seed=seed, num_initial=INITIAL
    )
    while strategy.num_asked < OBSERVATIONS:
        for widths in [strategy.ask() for _ in range(PER_ROUND)]:
            strategy.tell(widths, problem.observe(widths))
    return strategy.history.widths


def _botorch(problem: Problem, seed: int, method: str) -> list[Widths]:
    torch.manual_seed(seed)
    initial = search.create(
        "joslim", space=problem.space, cost=problem.cost, seed=seed, num_initial=INITIAL
    )
    observed = list(dict.fromkeys(initial.ask() for _ in range(INITIAL + 1)))
    losses = [problem.observe(widths) for widths in observed]
    while len(observed) < OBSERVATIONS:
        X = problem.cube.encode(observed)
        costs = problem.cost.fraction(problem.cube.channels(X))
        Y = -torch.stack([torch.tensor(losses, dtype=torch.float64), costs], dim=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BotorchWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            asked = _hypervolume_improvement(X, Y)
        levels = problem.cube.round(asked, torch.tensor(0.5, dtype=torch.float64))
        for row in levels.tolist():
            observed.append(problem.cube.widths(row))
            losses.append(problem.observe(observed[-1]))
    return observed[:OBSERVATIONS]


def _hypervolume_improvement(X: Tensor, Y: Tensor) -> Tensor:
    """BoTorch's proposal ``(PER_ROUND, d)`` after ``Y (n, 2)``, maximised, at ``X (n, d)``."""
    model = ModelListGP(
        *(SingleTaskGP(X, y, outcome_transform=Standardize(1)) for y in Y.split(1, dim=1))
    )
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    improvement = qLogNoisyExpectedHypervolumeImprovement(
        model, ref_point=[-1.0, -1.0], X_baseline=X, prune_baseline=True
    )
    d = X.shape[1]
    bounds = torch.tensor([[0.0] * d, [1.0] * d], dtype=torch.float64)
    asked, _ = optimize_acqf(
        improvement, bounds, q=PER_ROUND, num_restarts=4, raw_samples=128, sequential=True
    )
    return asked


def summary(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds, in Markdown."""
    lines = ["| groups | method | seeds | hypervolume regret | seconds per proposal |"]
    lines.append("|---:|---|---:|---:|---:|")
    for (groups, method), found in rows.groupby(["groups", "method"]):
        regret, seconds = found["regret"], found["seconds_per_proposal"].mean()
        lines.append(
            f"| {groups} | {method} | {len(found)} | {regret.mean():.4f} ± {regret.std():.4f} "
            f"| {seconds:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
