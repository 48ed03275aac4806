"""Stage ``train``: joint training of shared weights and widths; continues after an interruption."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import joslim
from joslim import distributed
from joslim.checkpoint import previous
from joslim.storage import NetworkSpec, save_supernet
from joslim.threads import use_suitable_threads
from joslim.training import Progress, Trainer
from pipelines import objective, paths, tracking
from pipelines.curve import Curve
from pipelines.objective import make_strategy
from pipelines.params import Params, load_params
from pipelines.prepare import DataInfo, load_split
from pipelines.progress import track
from pipelines.stage import console, run_stage

FINISHED = "finished"
"""Marks the checkpoint of a training whose results are saved. It stays until another training
finishes, as a crash may come before DVC has noted the results."""

MAX_RESTARTS = 3
"""Times that all processes start again from the last checkpoint after one has died."""


def main() -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    if params.training.processes > 1 and not distributed.is_launched():
        sys.exit(_launch(params.training.processes))
    with distributed.together():
        train(params, info)


def train(params: Params, info: DataInfo) -> None:
    """Train, and save from the first process; the others only train."""
    spec = params.network_spec(len(info.classes), info.mean, info.std)
    checkpoints = paths.STATE / "checkpoints"
    folder = checkpoints / training_key(params, info)
    if distributed.rank() > 0:
        for _ in make_trainer(params, spec).run(folder / "checkpoint.pt"):
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
            "processes": str(distributed.size()),
        }
        run.params({"chosen": chosen})
        console.print("chosen:", ", ".join(f"{k} {v}" for k, v in chosen.items()), soft_wrap=True)
        console.print(
            f"images: {trainer.num_images:,} to train on, and {params.training.refresh_images:,} "
            "of the training split to measure widths by (training.refresh_images)",
            soft_wrap=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        curve = Curve(folder / "curve.jsonl", trainer.num_steps)
        _run(trainer, folder / "checkpoint.pt", curve, run)
        shutil.rmtree(paths.SUPERNET, ignore_errors=True)
        save_supernet(paths.SUPERNET, trainer.network, spec)
        state = trainer.strategy.state_dict()
        (paths.SUPERNET / "search.json").write_text(json.dumps(state, indent=1) + "\n")
        paths.TRAIN_REPORT.mkdir(parents=True, exist_ok=True)
        curves = curve.table()
        curves.to_csv(paths.TRAIN_REPORT / "curves.csv", index=False)
        metrics: dict[str, float] = {
            "num_steps": trainer.num_steps,
            "num_visited": len(trainer.strategy.history),
            "history_hypervolume": trainer.history_hypervolume,
        }
        metrics |= curves.filter(like="_loss").tail(5).mean().to_dict()
        (paths.TRAIN_REPORT / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
        run.artifact(paths.TRAIN_REPORT / "curves.csv")
        (folder / FINISHED).touch()
    for marker in checkpoints.glob(f"*/{FINISHED}"):
        if marker.parent != folder:
            shutil.rmtree(marker.parent)


def training_key(params: Params, info: DataInfo) -> str:
    """Names the checkpoint: the same for all runs that would train the same weights.

    So it follows from parameters, data, and code: the library's, that of this stage, and of the
    user's own network.
    """
    sections = params.model_dump(
        mode="json",
        include={"seed": True, "network": True, "search": True, "training": True, "data": True},
        exclude={"training": {"checkpoint_steps", "checkpoint_minutes"}, "data": {"path"}},
    )
    content = [sections, info.digest, torch.__version__]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    own_network = paths.INPUTS / "network.json"
    code = sorted(Path(joslim.__file__).parent.rglob("*.py"))
    code += [Path(__file__), Path(objective.__file__)]
    for file in [*code, *([own_network] if own_network.exists() else [])]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def make_trainer(params: Params, spec: NetworkSpec) -> Trainer:
    """A supernet with fresh weights, its search and the prepared data, ready to run."""
    torch.manual_seed(params.seed)
    network = spec.build(params.network.weights)
    if params.network.weights is not None:
        network.sort_channels_()
    use_suitable_threads(network, params.training.batch_size)
    strategy = make_strategy(params, network)
    return Trainer(network, strategy, load_split("train"), params.training, seed=params.seed)


def _launch(processes: int) -> int:
    """Start this stage in so many processes of this machine; returns their exit code."""
    threads = max(1, torch.get_num_threads() // processes)
    # A store that outlives a restart holds addresses of the dead (PyTorch issue 135712).
    own = {"OMP_NUM_THREADS": str(threads), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={MAX_RESTARTS}", "-m", "pipelines.train"]
    return subprocess.run([sys.executable, "-m", *command], env=os.environ | own).returncode


def _run(trainer: Trainer, checkpoint: Path, curve: Curve, run: tracking.Run) -> None:
    """Train to the end; the curve's points go to MLflow as well, those of before a crash too."""
    if checkpoint.exists() or previous(checkpoint).exists():
        console.print(f"continuing from {checkpoint}", soft_wrap=True)
    for step in curve.ends():
        run.metrics(curve.point(step), step)
    for progress in track(
        trainer.run(checkpoint),
        "training",
        describe=_describer(trainer.config.batch_size),
        position=lambda p: (p.step, p.num_steps),
    ):
        curve.add(progress.step, progress.numbers())
        if curve.ends_at(progress.step):
            run.metrics(curve.point(progress.step), progress.step)


def _describer(batch_size: int) -> Callable[[Progress], str]:
    """Text about a step, with the mean speed since the first one."""
    first_step, start = None, time.monotonic()

    def describe(progress: Progress) -> str:
        nonlocal first_step
        first_step = progress.step - 1 if first_step is None else first_step
        speed = batch_size * (progress.step - first_step) / (time.monotonic() - start)
        return (
            f"epoch {progress.epoch:.1f}, loss {progress.full_loss:.3f}, "
            f"front {progress.history_hypervolume:.3f}, lr {progress.learning_rate:.1e}, "
            f"{speed:,.0f} images/s"
        )

    return describe


if __name__ == "__main__":
    run_stage(main)
