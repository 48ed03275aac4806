"""Stage ``train``: joint training of shared weights and widths; continues after an interruption."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import joslim
from joslim import distributed
from joslim.supernet.storage import save_supernet
from joslim.training import Trainer, TrainingStep, doubt_of_loss, doubt_of_search
from joslim.training.checkpoint import previous
from pipelines import building, tracking
from pipelines.artifacts.curve import STEPS_PER_POINT, Curve
from pipelines.artifacts.prepared_data import DataInfo
from pipelines.building import make_trainer
from pipelines.settings import paths
from pipelines.settings.keys import with_keys
from pipelines.settings.loading import load_params
from pipelines.settings.params import Params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track

CHECKPOINT = "checkpoint.pt"

FINISHED = "finished"
"""Marks the checkpoint of a training whose results are saved. It stays until another training
finishes, as a crash may come before DVC has noted the results."""

MAX_RESTARTS = 3
"""Times that all processes start again from the last checkpoint after one has died."""


def main() -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    if params.execution.processes > 1 and not distributed.is_launched():
        sys.exit(_launch(params.execution.processes))
    with distributed.process_group():
        train(params, info)


def train(params: Params, info: DataInfo) -> None:
    """Train, and save from the first process; the others only train."""
    spec = params.network_spec(len(info.classes), info.mean, info.std)
    checkpoints = paths.STATE / "checkpoints"
    folder = checkpoints / training_key(params, info)
    if distributed.rank() > 0:
        for _ in _steps(make_trainer(params, spec), folder, params):
            pass
        return
    sections = {"network": True, "search": True, "training": True, "seed": True}
    with tracking.stage_run(
        "train",
        params=params.model_dump(include=sections),
        data_digest=info.digest,
        system_metrics=True,
    ) as run:
        trainer = make_trainer(params, spec)
        chosen = trainer.choices | {
            "threads": str(torch.get_num_threads()),
            "processes": str(distributed.world_size()),
        }
        run.params({"chosen": chosen})
        console.print("chosen:", ", ".join(f"{k} {v}" for k, v in chosen.items()), soft_wrap=True)
        console.print(
            f"images: {trainer.num_images:,} to train on, and {params.training.refresh_images:,} "
            "of the training split to measure widths by (training.refresh_images)",
            soft_wrap=True,
        )
        doubts = _told(doubt_of_search(trainer.num_steps, trainer.strategy, params.training))
        run.warnings(doubts)
        folder.mkdir(parents=True, exist_ok=True)
        curve = Curve(folder / "curve.jsonl", trainer.num_steps)
        _run(trainer, folder, params, curve, run)
        shutil.rmtree(paths.SUPERNET, ignore_errors=True)
        save_supernet(paths.SUPERNET, trainer.network, spec)
        state = trainer.strategy.state_dict()
        (paths.SUPERNET / "search.json").write_text(json.dumps(state, indent=1) + "\n")
        paths.TRAIN_REPORT.mkdir(parents=True, exist_ok=True)
        curves = curve.table()
        curves.to_csv(paths.TRAIN_REPORT / "curves.csv", index=False)
        metrics: dict[str, Any] = {
            "num_steps": trainer.num_steps,
            "num_visited": len(trainer.strategy.history),
            "history_hypervolume": trainer.history_hypervolume,
        }
        metrics |= curves.filter(like="_loss").tail(5).mean().to_dict()
        doubt = doubt_of_loss(metrics["full_loss"], trainer.guess_loss, params.training)
        metrics["warnings"] = doubts + _told(doubt)
        run.warnings(metrics["warnings"])
        (paths.TRAIN_REPORT / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
        run.artifact(paths.TRAIN_REPORT / "curves.csv")
        (folder / FINISHED).touch()
    for marker in checkpoints.glob(f"*/{FINISHED}"):
        if marker.parent != folder:
            shutil.rmtree(marker.parent)


def training_key(params: Params, info: DataInfo) -> str:
    """Name of the checkpoint's folder, the same for all runs that would train the same weights.

    So it follows from parameters, data, and code: the library's, that of this stage, and of the
    user's own network.
    """
    sections = params.model_dump(
        mode="json",
        include={"seed": True, "network": True, "search": True, "training": True, "data": True},
        exclude={"data": {"path"}},
    )
    content = [sections, info.digest, torch.__version__]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    own_network = paths.INPUTS / "network.json"
    code = sorted(Path(joslim.__file__).parent.rglob("*.py"))
    code += [Path(__file__), Path(building.__file__)]
    for file in [*code, *([own_network] if own_network.exists() else [])]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _launch(processes: int) -> int:
    """Start this stage in so many processes of this machine; returns their exit code."""
    threads = max(1, torch.get_num_threads() // processes)
    # A store that outlives a restart holds addresses of the dead (PyTorch issue 135712).
    own = {"OMP_NUM_THREADS": str(threads), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={MAX_RESTARTS}", "-m", "pipelines.stages.train"]
    return subprocess.run([sys.executable, "-m", *command], env=os.environ | own).returncode


def _steps(trainer: Trainer, folder: Path, params: Params) -> Iterator[TrainingStep]:
    return trainer.run(
        folder / CHECKPOINT,
        checkpoint_steps=params.execution.checkpoint_steps,
        checkpoint_minutes=params.execution.checkpoint_minutes,
    )


def _run(trainer: Trainer, folder: Path, params: Params, curve: Curve, run: tracking.Run) -> None:
    """Train to the end; the curve's points go to MLflow as well, those of before a crash too."""
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() or previous(checkpoint).exists():
        console.print(f"continuing from {checkpoint}", soft_wrap=True)
    warmup, doubted = trainer.config.warmup_fraction * trainer.num_steps, False
    for end in curve.ends():
        run.metrics(curve.point(end), end)
    for step in track(
        _steps(trainer, folder, params),
        "training",
        describe=_describer(trainer.config.batch_size),
        position=lambda s: (s.step, s.num_steps),
    ):
        curve.add(step.step, step.numbers())
        if curve.ends_at(step.step):
            point = curve.point(step.step)
            run.metrics(point, step.step)
            if not doubted and step.step - STEPS_PER_POINT >= warmup:
                doubted = bool(
                    _told(doubt_of_loss(point["full_loss"], trainer.guess_loss, trainer.config))
                )


def _told(doubt: str | None) -> list[str]:
    """A doubt in the terms of ``params.yaml``, once it is printed; nothing if there is none."""
    if doubt is None:
        return []
    text = with_keys(doubt)
    warnings.warn(text, stacklevel=2)
    return [text]


def _describer(batch_size: int) -> Callable[[TrainingStep], str]:
    """Text about a step, with the mean speed since the first one."""
    first_step, start = None, time.monotonic()

    def describe(step: TrainingStep) -> str:
        nonlocal first_step
        first_step = step.step - 1 if first_step is None else first_step
        speed = batch_size * (step.step - first_step) / (time.monotonic() - start)
        return (
            f"epoch {step.epoch:.1f}, loss {step.full_loss:.3f}, "
            f"front {step.history_hypervolume:.3f}, lr {step.learning_rate:.1e}, "
            f"{speed:,.0f} images/s"
        )

    return describe


if __name__ == "__main__":
    run_command(main)
