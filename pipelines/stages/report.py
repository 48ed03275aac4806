"""Stage ``report``: the whole run on one page that needs no network."""

import platform
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from joslim.budgets import parse_limits, quantity, stated
from joslim.certainty import interval
from joslim.errors import DataError
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_spec
from pipelines import tracking
from pipelines.artifacts import registered
from pipelines.artifacts.files import read, read_json
from pipelines.artifacts.prepared_data import DataInfo
from pipelines.pictures import Mark, draw_confusion, draw_curves, draw_front, draw_widths, to_svg
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.params import Params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.printable import without_logins
from pipelines.tracking.git import git

WIDE, NARROW = 10.8, 4.2
"""Inches: a picture for screens and paper, and one for phones."""

NUM_MISTAKES = 3
"""Most frequent mistakes to be named per model."""

PACKAGES = ("joslim", "torch", "torchvision", "botorch", "mlflow", "dvc", "prefect", "pandas")


@dataclass(frozen=True)
class Model:
    """A budget's model.

    Attributes:
        metrics: As `evaluate` wrote them.
        confusion: Counts on ``test``; rows are labels, columns predictions.
        version: In the registry.
        uri: In the registry, by alias; by version where the alias points elsewhere.
    """

    budget: str
    metrics: Mapping[str, Any]
    confusion: pd.DataFrame
    version: int
    uri: str

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

    def mistakes(self) -> list[tuple[str, str, float]]:
        """The most frequent ones: label, prediction, share of the label's images."""
        counts = self.confusion.to_numpy() * (1 - np.eye(len(self.confusion), dtype=int))
        totals = self.confusion.to_numpy().sum(1)
        names = list(self.confusion.columns)
        worst = np.argsort(-counts, axis=None, kind="stable")[:NUM_MISTAKES]
        pairs = zip(*np.unravel_index(worst, counts.shape), strict=True)
        return [(names[i], names[j], counts[i, j] / totals[i]) for i, j in pairs if counts[i, j]]


@dataclass(frozen=True)
class Inputs:
    """What the stages before have left.

    Attributes:
        full: The full network's cost per column; ``objective`` is the search's.
        settings: The text of ``params.yaml``.
    """

    params: Params
    settings: str
    data: DataInfo
    manifest: pd.DataFrame
    spec: NetworkSpec
    curves: pd.DataFrame
    training: Mapping[str, Any]
    front: pd.DataFrame
    candidates: pd.DataFrame
    search: Mapping[str, Any]
    full: Mapping[str, float]
    models: tuple[Model, ...]
    registered: Mapping[str, Any]

    @classmethod
    def load(cls) -> "Inputs":
        """Read what the stages before have written.

        Raises:
            DataError: If a file is missing or damaged.
        """
        params = read_params()
        written = read_json(paths.REGISTERED)
        return cls(
            params=params,
            settings=paths.PARAMS.read_text(),
            data=DataInfo.load(),
            manifest=_table(paths.PREPARED / "manifest.csv"),
            spec=load_spec(paths.SUPERNET),
            curves=_csv(paths.TRAIN_REPORT / "curves.csv"),
            training=read_json(paths.TRAIN_REPORT / "metrics.json"),
            front=_csv(paths.FRONT_REPORT / "front.csv"),
            candidates=_csv(paths.FRONT_REPORT / "candidates.csv"),
            search=read_json(paths.FRONT_REPORT / "metrics.json"),
            full=read_json(paths.FRONT_REPORT / "full.json"),
            models=tuple(_model(budget, written) for budget in params.budgets),
            registered=written,
        )


def main() -> None:
    inputs = Inputs.load()
    with tracking.stage_run("report", data_digest=inputs.data.digest) as run:
        paths.REPORT_PAGE.write_text(render(inputs), encoding="utf-8")
        run.artifact(paths.REPORT_PAGE)
    console.print(f"report: {paths.REPORT_PAGE}")


def render(inputs: Inputs) -> str:
    """The page: HTML with everything in it; the same for the same inputs, commit and packages."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    counts = inputs.manifest.pivot(index="class", columns="split", values="count")
    return environment.get_template("report.html").render(
        inputs=inputs,
        quantities={q.name: q for q in stated(inputs.front.columns)},
        objective=quantity(inputs.search["objective"]),
        pictures=_pictures(inputs),
        counts=counts.loc[list(inputs.data.classes), ["train", "val", "test"]],
        margin=_margin(inputs.models, int(counts["test"].sum())),
        doubts=[
            *inputs.training.get("warnings", ()),
            *inputs.search.get("warnings", ()),
            *inputs.registered["held_back"],
        ],
        before={
            "title": registered.title(inputs.registered),
            "rows": registered.rows(inputs.registered),
        },
        commit=_commit(),
        packages={"Python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        tracking_uri=_shown_uri(tracking.uri()),
    )


def _pictures(inputs: Inputs) -> dict[str, Any]:
    objective = inputs.search["objective"]
    full_cost = inputs.full["objective"]
    marks = [model.mark(objective, inputs.front, full_cost) for model in inputs.models]
    groups = inputs.spec.build(allow=inputs.params.network.own_code).space.groups
    return {
        "front": _responsive(
            partial(draw_front, inputs.front, inputs.candidates, objective, marks),
            "Validation error against cost",
        ),
        "widths": _responsive(
            partial(draw_widths, inputs.front, groups, objective, full_cost, marks),
            "Channels per group along the front",
        ),
        "curves": _responsive(partial(draw_curves, inputs.curves), "Training losses"),
        "confusion": {
            model.budget: Markup(
                to_svg(
                    draw_confusion(model.confusion.to_numpy(), list(model.confusion.columns)),
                    f"Confusion matrix of {model.budget}",
                )
            )
            for model in inputs.models
        },
    }


def _responsive(draw: Callable[..., Figure], title: str) -> Markup:
    """The picture twice; a style sheet shows the one that suits the screen."""
    return Markup(
        f'<div class="wide">{to_svg(draw(width=WIDE), title)}</div>'
        f'<div class="narrow">{to_svg(draw(width=NARROW), title)}</div>'
    )


def _model(budget: str, written: Mapping[str, Any]) -> Model:
    folder, alias = paths.EVALUATE / budget, f"budget-{budget}"
    versions = {one["id"]: one for one in written["versions"] if one["kind"] == "budget"}
    if (version := versions.get(budget)) is None:
        raise DataError(f"{paths.REGISTERED} has no model of '{budget}'; run `dvc repro`")
    by_alias = f"models:/{written['model']}@{alias}"
    return Model(
        budget,
        read_json(folder / "metrics.json"),
        _table(folder / "confusion.csv").set_index("label").astype(int),
        version["version"],
        by_alias if alias in version["aliases"] else version["uri"],
    )


def _margin(models: tuple[Model, ...], num_images: int) -> float:
    """How far a top-1 on so many images may be off, by Wilson's 95 % interval; the models' most."""
    farthest = 0.0
    for model in models:
        top1 = model.metrics["finetuned"]["top1"]
        low, high = interval(top1, num_images)
        farthest = max(farthest, top1 - low, high - top1)
    return farthest


def _csv(path: Path) -> pd.DataFrame:
    return read(path, lambda text: pd.read_csv(StringIO(text)))


def _table(path: Path) -> pd.DataFrame:
    """With class names as they are: one may be called ``None`` or ``1``."""
    names = {"label": str, "class": str}
    return read(path, lambda text: pd.read_csv(StringIO(text), dtype=names, keep_default_na=False))


def _percent(fraction: float, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f} %"


def _commit() -> str:
    """Git's name for the code, with ``-dirty`` if files differ from it; ``none`` without git."""
    return git("describe", "--always", "--dirty", "--abbrev=12") or "none"


def _shown_uri(uri: str) -> str:
    """Without a login, and relative to the checkout where it is inside."""
    return without_logins(uri.replace(f"sqlite:///{paths.root()}/", "sqlite:///"))


if __name__ == "__main__":
    run_command(main)
