"""Stage ``report``: the whole run on one page that needs no network."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from joslim.budgets import quantity, stated
from joslim.certainty import interval
from joslim.data import Images
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_spec
from pipelines import tracking
from pipelines.artifacts import registered
from pipelines.artifacts.files import read_json
from pipelines.artifacts.latencies import measured_on
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.artifacts.reported_model import ReportedModel
from pipelines.artifacts.tables import read_by_class, read_numbers
from pipelines.pictures import draw_confusion, draw_curves, draw_front, draw_widths, to_svg
from pipelines.pictures.contact_sheet import contact_sheet
from pipelines.pictures.tiles import data_uri
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.params import Params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.printable import without_logins
from pipelines.tracking.git import git

WIDE, NARROW = 10.8, 4.2
"""Inches: a picture for screens and paper, and one for phones."""

PACKAGES = ("joslim", "torch", "torchvision", "botorch", "mlflow", "dvc", "prefect", "pandas")


@dataclass(frozen=True)
class Inputs:
    """What the stages before have left.

    Attributes:
        full: The full network's cost per column; ``objective`` is the search's.
        train: The images that were trained on.
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
    models: tuple[ReportedModel, ...]
    registered: Mapping[str, Any]
    train: Images

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
            manifest=read_by_class(paths.PREPARED / "manifest.csv"),
            spec=load_spec(paths.SUPERNET),
            curves=read_numbers(paths.TRAIN_REPORT / "curves.csv"),
            training=read_json(paths.TRAIN_REPORT / "metrics.json"),
            front=read_numbers(paths.FRONT_REPORT / "front.csv"),
            candidates=read_numbers(paths.FRONT_REPORT / "candidates.csv"),
            search=read_json(paths.FRONT_REPORT / "metrics.json"),
            full=read_json(paths.FRONT_REPORT / "full.json"),
            models=tuple(ReportedModel.load(budget, written) for budget in params.budgets),
            registered=written,
            train=load_split("train"),
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
    environment.filters |= {"percent": _percent, "data_uri": data_uri}
    counts = inputs.manifest.pivot(index="class", columns="split", values="count")
    return environment.get_template("report.html").render(
        inputs=inputs,
        quantities={q.name: q for q in stated(inputs.front.columns)},
        objective=quantity(inputs.search["objective"]),
        latencies=measured_on(inputs.search),
        pictures=_pictures(inputs),
        sheet=contact_sheet(
            inputs.train,
            inputs.data.classes,
            inputs.params.training.augmentation,
            inputs.params.seed,
        ),
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
        held_back=registered.HELD_BACK,
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


def _margin(models: tuple[ReportedModel, ...], num_images: int) -> float:
    """How far a top-1 on so many images may be off, by Wilson's 95 % interval; the models' most."""
    farthest = 0.0
    for model in models:
        top1 = model.metrics["finetuned"]["top1"]
        low, high = interval(top1, num_images)
        farthest = max(farthest, top1 - low, high - top1)
    return farthest


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
