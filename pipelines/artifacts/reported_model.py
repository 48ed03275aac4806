"""A budget's model as the report shows it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from joslim.budgets import parse_limits
from joslim.errors import DataError
from pipelines.artifacts.files import read_json
from pipelines.artifacts.mistakes import Mistake
from pipelines.artifacts.mistakes import load as load_mistakes
from pipelines.artifacts.tables import read_by_class
from pipelines.pictures import Mark
from pipelines.settings import paths

MOST_FREQUENT = 3
"""Mistakes to be named per model."""


@dataclass(frozen=True)
class ReportedModel:
    """A budget's model.

    Attributes:
        metrics: As `evaluate` wrote them.
        confusion: Counts on ``test``; rows are labels, columns predictions.
        version: In the registry.
        uri: In the registry, by alias; by version where the alias points elsewhere.
        mistakes: Images of ``test`` that it takes for something else.
    """

    budget: str
    metrics: Mapping[str, Any]
    confusion: pd.DataFrame
    version: int
    uri: str
    mistakes: Sequence[tuple[Mistake, Image.Image]]

    @classmethod
    def load(cls, budget: str, registered: Mapping[str, Any]) -> "ReportedModel":
        """Read what stage ``evaluate`` wrote; ``registered`` is what ``register`` did.

        Raises:
            DataError: If a file is missing or damaged, or the budget has no version.
        """
        folder, alias = paths.EVALUATE / budget, f"budget-{budget}"
        versions = {one["id"]: one for one in registered["versions"] if one["kind"] == "budget"}
        if (version := versions.get(budget)) is None:
            raise DataError(f"{paths.REGISTERED} has no model of '{budget}'; run `dvc repro`")
        by_alias = f"models:/{registered['model']}@{alias}"
        return cls(
            budget,
            read_json(folder / "metrics.json"),
            read_by_class(folder / "confusion.csv").set_index("label").astype(int),
            version["version"],
            by_alias if alias in version["aliases"] else version["uri"],
            load_mistakes(folder),
        )

    @property
    def is_tuned(self) -> bool:
        """Whether it was trained on after it was sliced."""
        return bool(self.metrics["private"] != "nothing")

    @property
    def limits(self) -> str:
        return ", ".join(f"{name} ≤ {limit}" for name, limit in self.metrics["limits"].items())

    @property
    def of(self) -> str:
        """The registered model, as an option of the `joslim` command."""
        return f"--model {shlex.quote(re.split('[/@]', self.uri.removeprefix('models:/'))[0])}"

    @property
    def command(self) -> str:
        """The command that finds the best model within the budget's limits."""
        limits = ",".join(f"{name}={limit}" for name, limit in self.metrics["limits"].items())
        return f"joslim lookup {self.of} --budget {shlex.quote(limits)}"

    def mark(self, objective: str, front: pd.DataFrame, full_cost: float) -> Mark:
        """The model's mark in pictures of the ``front``; ``full_cost`` is the full network's."""
        limits = parse_limits(self.metrics["limits"])
        # The search predicts PyTorch's latency; a limit is on that of the runtime that ships.
        comparable = objective if objective != "latency" else None
        same = (limit for limit in limits if limit.quantity.name == comparable)
        return Mark(
            self.budget,
            self.metrics["front_id"],
            float(front.loc[front["id"] == self.metrics["front_id"], "objective"].iloc[0]),
            self.metrics["val_top1"],
            next((limit.resolve(full_cost) for limit in same), None),
        )

    def most_frequent(self) -> list[tuple[str, str, float]]:
        """Its most frequent mistakes: label, prediction, share of the label's images."""
        counts = self.confusion.to_numpy() * (1 - np.eye(len(self.confusion), dtype=int))
        totals = self.confusion.to_numpy().sum(1)
        names = list(self.confusion.columns)
        worst = np.argsort(-counts, axis=None, kind="stable")[:MOST_FREQUENT]
        pairs = zip(*np.unravel_index(worst, counts.shape), strict=True)
        return [(names[i], names[j], counts[i, j] / totals[i]) for i, j in pairs if counts[i, j]]
