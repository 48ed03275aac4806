"""Search training hyperparameters for the best front.

Hyperopt's TPE proposes; a trial trains a supernet for a few epochs and is worth its front's
hypervolume on ``val``, or 0 if its loss is no longer finite. Finished trials are kept: an
interrupted search goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hyperopt import JOB_STATE_DONE, STATUS_OK, Trials, hp, space_eval, tpe
from hyperopt.base import Domain
from rich.table import Table

from joslim.errors import DivergenceError
from joslim.front import extract_front, hypervolume
from pipelines import tracking
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.building import make_trainer
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.settings.params import Params, TuneParams
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main() -> None:
    """Search until there are as many trials as asked for, and show the best."""
    params = load_params()
    info = DataInfo.load_for(params)
    study = Study(params, paths.STATE / "tune" / f"{_key(params, info)}.jsonl")
    with tracking.stage_run(
        "tune", params=params.tune.model_dump(), data_digest=info.digest
    ) as run:
        while len(study.results) < params.tune.num_trials:
            number = len(study.results)
            chosen = study.ask()
            with tracking.stage_run(
                f"trial {number}", params=chosen, data_digest=info.digest
            ) as trial:
                try:
                    hypervolume = _hypervolume(params, info, chosen, f"trial {number}")
                except DivergenceError as error:
                    console.print(f"trial {number} is worth 0: {error}")
                    hypervolume = 0.0
                trial.metrics({"hypervolume": hypervolume})
            study.tell(chosen, hypervolume)
            run.metrics({"best_hypervolume": study.best()["hypervolume"]}, step=number)
        _write(study, run)
    _show(study)


class Study:
    """A search by Hyperopt, by ask and tell; it continues from the trials that are finished."""

    def __init__(self, params: Params, file: Path) -> None:
        self.file = file
        self.results: list[dict[str, Any]] = []
        self._seed = params.seed
        self._space = _space(params.tune)
        self._trials = Trials()
        self._domain = Domain(lambda _: 0.0, self._space)
        file.parent.mkdir(parents=True, exist_ok=True)
        finished = file.read_text().splitlines() if file.exists() else []
        for line in finished:
            self.ask()
            self._finish(json.loads(line))

    def ask(self) -> dict[str, Any]:
        """Hyperparameters to try next."""
        (number,) = self._trials.new_trial_ids(1)
        self._trials.refresh()
        (self._asked,) = tpe.suggest([number], self._domain, self._trials, self._seed + number)
        values = {name: found[0] for name, found in self._asked["misc"]["vals"].items()}
        chosen = space_eval(self._space, values)
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in chosen.items()}

    def tell(self, chosen: Mapping[str, Any], hypervolume: float) -> None:
        """Keep the result of what was asked last."""
        result = {**chosen, "hypervolume": hypervolume}
        with self.file.open("a") as file:
            file.write(json.dumps(result) + "\n")
        self._finish(result)

    def best(self) -> dict[str, Any]:
        """The trial with the largest hypervolume."""
        return max(self.results, key=lambda result: result["hypervolume"])

    def _finish(self, result: dict[str, Any]) -> None:
        self._asked["state"] = JOB_STATE_DONE
        self._asked["result"] = {"status": STATUS_OK, "loss": -result["hypervolume"]}
        self._trials.insert_trial_docs([self._asked])
        self._trials.refresh()
        self.results.append(result)


def _space(tune: TuneParams) -> dict[str, Any]:
    return {
        "learning_rate": hp.loguniform("learning_rate", *np.log(tune.learning_rate)),
        "weight_decay": hp.loguniform("weight_decay", *np.log(tune.weight_decay)),
        "distillation_weight": hp.uniform("distillation_weight", *tune.distillation_weight),
        "steps_per_proposal": hp.choice("steps_per_proposal", tune.steps_per_proposal),
    }


def _key(params: Params, info: DataInfo) -> str:
    """Names the study: the same for all that would give the same trials."""
    sections = params.model_dump(mode="json", exclude={"data", "budgets", "execution", "finetune"})
    del sections["tune"]["num_trials"]
    content = json.dumps([sections, info.digest], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _hypervolume(params: Params, info: DataInfo, chosen: Mapping[str, Any], title: str) -> float:
    """Train with the ``chosen`` hyperparameters and measure the front on ``val``."""
    config = params.training.model_copy(update={**chosen, "epochs": params.tune.epochs})
    spec = params.network_spec(len(info.classes), info.mean, info.std)
    trainer = make_trainer(params.model_copy(update={"training": config}), spec)
    for _ in track(trainer.run(), title, position=lambda p: (p.step, p.num_steps)):
        pass
    front = extract_front(
        trainer.network,
        trainer.strategy,
        load_split("train"),
        load_split("val").kept(),
        num_proposals=params.front.num_proposals,
        calibration_images=params.front.calibration_images,
        refresh_images=params.training.refresh_images,
    )
    return round(hypervolume(front, trainer.strategy), 6)


def _write(study: Study, run: tracking.Run) -> None:
    best = {k: v for k, v in study.best().items() if k != "hypervolume"}
    file = paths.TUNE_REPORT / "best.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"training": best}, sort_keys=False))
    run.artifact(file)


def _show(study: Study) -> None:
    ranked = sorted(study.results, key=lambda result: -result["hypervolume"])
    headings = (name.replace("_", " ") for name in ranked[0])
    table = Table(*headings, title=f"best of {len(ranked)} trials", title_justify="left")
    for result in ranked[:10]:
        table.add_row(*(f"{value:.4g}" for value in result.values()))
    console.print(table)
    console.print(
        f"values for the section training of params.yaml: {paths.TUNE_REPORT / 'best.yaml'}"
    )
