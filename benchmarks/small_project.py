"""A small project with generated images, in which real stages can be started and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from joslim.data import ImageSet
from joslim.data.sources import FASHION_MNIST_CLASSES
from pipelines.artifacts.prepared_data import DataInfo, data_settings
from pipelines.settings import paths
from pipelines.settings.loading import read_params

SOURCE = Path(__file__).resolve().parent.parent
IMAGES = {"train": 480, "val": 160, "test": 160}
TRAINING = {
    "epochs": 10, "batch_size": 32, "refresh_images": 64, "proposals_per_round": 3,
    "steps_per_proposal": 6,
}  # fmt: skip


def make(root: Path, *, checkpoint_steps: int = 10, **training: Any) -> None:
    """Write settings and prepared images of ten classes; ``training`` is that of params.yaml."""
    params = yaml.safe_load((SOURCE / paths.PARAMS).read_text())
    params["network"]["name"] = "resnet8-half"
    params["search"] |= {"strategy": "joslim", "num_initial": 4}
    params["training"] |= TRAINING | training
    params["execution"]["checkpoint_steps"] = checkpoint_steps
    params["front"] = {"num_proposals": 8, "calibration_images": 128}
    (root / paths.PARAMS).write_text(yaml.safe_dump(params))
    (root / "dvc.yaml").touch()
    (root / paths.PREPARED).mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for split, count in IMAGES.items():
        labels = torch.arange(count) % 10
        images = torch.randint(0, 180, (count, 1, 28, 28), generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[0, 2 * label : 2 * label + 8, 20 - 2 * label : 28 - 2 * label] += 60
        ImageSet(images.byte(), labels).save(root / paths.PREPARED / f"{split}{ImageSet.suffix}")
    made_by = data_settings(read_params(root / paths.PARAMS))
    info = DataInfo("generated", FASHION_MNIST_CLASSES, (0.37,), (0.21,), "generated", made_by)
    (root / paths.PREPARED / "dataset.json").write_text(json.dumps(asdict(info)))


def start(root: Path, stage: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a stage with one thread, in a process group of its own; it writes to ``log.txt``."""
    own = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **environment}
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"pipelines.stages.{stage}"],
            cwd=root,
            env=os.environ | own,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Wait for something that ``process`` does, or for its end."""
    while process.poll() is None and not condition():
        time.sleep(0.001)


def finish(process: subprocess.Popen[bytes], root: Path) -> None:
    """Wait for a stage.

    Raises:
        SystemExit: With its output, if it failed.
    """
    if process.wait() != 0:
        raise SystemExit((root / "log.txt").read_text())


def kill(process: subprocess.Popen[bytes]) -> None:
    """End all processes of its group at once, as ``kill -9`` does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
