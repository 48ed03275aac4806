"""What a training does while MLflow's server is away.

    python -m benchmarks.outage [--seconds 60]

Starts an MLflow server and the stage ``train``, which logs to it; kills the server in the middle of
the training, starts it again so many seconds later, and waits for the stage to end. Prints the
longest time between two steps before, during and after the outage, and how many points of the
training's curve, each of every metric, the server has in the end. The exit code is 1 if one is
missing or differs.
"""

import argparse
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
from mlflow import MlflowClient

from benchmarks import machine, small_project
from pipelines import tracking
from pipelines.settings import paths

SECONDS_BEFORE = 10.0


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes:
        gaps: Longest time between two steps before, during and after the outage, in seconds.
        steps_during: Steps done while the server was away.
        points: Points of the curve, each of every metric.
        lost: Of them, those that the server does not have, or has with another value.
    """

    gaps: tuple[float, float, float]
    steps_during: int
    points: int
    lost: int


class Server:
    """An MLflow server of this machine, with its database in ``root``."""

    def __init__(self, root: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self._root = root
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start its process; it answers some seconds later."""
        command = ["server", "--host", "127.0.0.1", "--port", self._port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._root}/server.db"]
        command += ["--artifacts-destination", str(self._root / "artifacts")]
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._root / "server.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command],
                env=os.environ | own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_it_answers(self) -> None:
        """Raises `SystemExit` with its output if it ends instead."""
        while True:
            try:
                urlopen(f"{self.uri}/health", timeout=5).close()
            except OSError as error:
                if self._process.poll() is not None:
                    raise SystemExit((self._root / "server.txt").read_text()) from error
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        small_project.kill(self._process)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the server is away")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_through_outage(Path(folder), seconds, epochs=20 + round(2 * seconds))
    print("| server away | steps meanwhile | points | lost | longest time between two steps |")
    print("|---:|---:|---:|---:|---|")
    figures = (f"{seconds:g} s", outcome.steps_during, outcome.points, outcome.lost)
    gaps = "{:.2f} s before, {:.2f} s during, {:.2f} s after".format(*outcome.gaps)
    print(f"| {' | '.join(map(str, figures))} | {gaps} |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))
    sys.exit(outcome.lost > 0)


def train_through_outage(root: Path, seconds: float, *, epochs: int) -> Outcome:
    """Train in ``root`` for so many epochs, with the server away for so many ``seconds``.

    Raises:
        SystemExit: If the training or the server fails.
    """
    small_project.make(root, epochs=epochs, steps_per_proposal=60, checkpoint_steps=100)
    server = Server(root)
    server.start()
    try:
        server.wait_until_it_answers()
        process = small_project.start(root, "train", MLFLOW_TRACKING_URI=server.uri)
        small_project.wait_until(process, lambda: size_of_steps(root) > 0)
        before = watch(root, process, SECONDS_BEFORE)
        server.kill()
        during = watch(root, process, seconds, before[-1:])
        server.start()
        after = watch(root, process, math.inf, during[-1:])
        small_project.finish(process, root)
        server.wait_until_it_answers()
        points, lost = compare(root, server.uri)
    finally:
        server.kill()
    gaps = (longest(before), longest(during), longest(after))
    return Outcome(gaps, len(during) - 1, points, lost)


def watch(
    root: Path, process: subprocess.Popen[bytes], seconds: float, before: Sequence[float] = ()
) -> list[float]:
    """The moments of the steps from now on, for so long or to the end, after those ``before``."""
    moments, size, end = list(before), size_of_steps(root), time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
        last, size = size, size_of_steps(root)
        if size > last:
            moments.append(time.monotonic())
    return moments


def longest(moments: list[float]) -> float:
    """Time between two of them."""
    return max((b - a for a, b in pairwise(moments)), default=math.nan)


def size_of_steps(root: Path) -> int:
    """Bytes in the file to which the stage adds every step; 0 before and after training."""
    with suppress(FileNotFoundError):
        return sum(f.stat().st_size for f in root.glob(".joslim/checkpoints/*/curve.jsonl"))
    return 0


def compare(root: Path, uri: str) -> tuple[int, int]:
    """Points of the finished curve, and those of them that the server at ``uri`` does not have."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`joslim.stage` = 'train'")
    curve = pd.read_csv(root / paths.TRAIN_REPORT / "curves.csv")
    curve = curve.set_index("step")
    lost = 0
    for name, values in curve.items():
        there = {m.step: m.value for m in client.get_metric_history(run.info.run_id, str(name))}
        lost += sum(there.get(step) != value for step, value in values.items())
    return curve.size, lost


if __name__ == "__main__":
    main()
