"""Whether a pipeline that is killed in every stage ends like one that is left alone.

    python -m benchmarks.kills [--rounds 3]

Runs the whole pipeline on small generated images in an empty checkout: once without interruption,
then in so many rounds by ``dvc repro`` and in as many by ``python -m pipelines.flow``. In each
round every stage is killed once (``kill -9`` of the process group of whoever was started, as a
power cut would), at a random moment of its run; then the same command is started again. Compares
what is left at the end with the undisturbed run: weights, history, curve, candidates, front,
budgets' models and results byte for byte but for measured latencies, and the registry: versions,
aliases, models without a version, runs that still seem to run. Prints a Markdown table; the exit
code is 1 if anything differs.
"""

import argparse
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml
from PIL import Image

from benchmarks import machine

SOURCE = Path(__file__).resolve().parent.parent
WAYS = {
    "dvc repro": (sys.executable, "-m", "dvc", "repro"),
    "python -m pipelines.flow": (sys.executable, "-m", "pipelines.flow"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"source": "folder", "path": "images", "channels": 1, "image_size": 12},
    "network": {"name": "resnet8-half"},
    "search": {"num_initial": 4},
    "training": {
        "epochs": 4, "batch_size": 32, "precision": "float32", "learning_rate": 0.1,
        "proposals_per_round": 3, "steps_per_proposal": 6, "refresh_images": 32,
    },
    "execution": {"checkpoint_steps": 5},
    "front": {"num_proposals": 4, "calibration_images": 128},
    "finetune": {"epochs": 0.5, "private": "norms-and-classifier"},
}  # fmt: skip
BUDGETS = {"tiny": {"macs": "40%"}, "full": {"macs": "100%"}}
STAGES = (
    "inputs", "prepare", "train", "front", "finetune tiny", "finetune full", "evaluate tiny",
    "evaluate full", "assemble", "register", "report",
)  # fmt: skip
FILES = (
    "data/prepared/*", "models/supernet/*", "models/slimmable/*", "models/budgets/*/*",
    "reports/train/curves.csv", "reports/front/*.csv", "reports/evaluate/*/*",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows, differing = [], 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "undisturbed"
        make(root)
        lengths = run(root, WAYS["dvc repro"])
        expected = results(root)
        for name, command in WAYS.items():
            hit: Counter[str] = Counter()
            differences: Counter[str] = Counter()
            for seed in range(rounds):
                root = Path(folder) / f"{name.split()[-1]} {seed}"
                make(root)
                hit += run_killed(root, command, random.Random(seed), lengths)
                found = results(root)
                names = expected.keys() | found.keys()
                differences.update(n for n in names if expected.get(n) != found.get(n))
                print(f"{name}, round {seed + 1}: {dict(hit)} {dict(differences)}", file=sys.stderr)
                shutil.rmtree(root)
            differing += len(differences)
            rows.append((name, rounds, hit.total(), len(hit), len(expected), differences))
    print("| started by | rounds | kills | stages hit | compared | different |")
    print("|---|---:|---:|---:|---:|---|")
    for *numbers, differences in rows:
        told = ", ".join(f"{name} ({count})" for name, count in differences.items())
        print(f"| {' | '.join(map(str, numbers))} | {told or 'nothing'} |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))
    sys.exit(differing > 0)


def make(root: Path) -> None:
    """An empty checkout with small settings and images of ten classes, on which nothing has run."""
    for name in ("joslim", "pipelines"):
        shutil.copytree(SOURCE / name, root / name)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(SOURCE / name, root / name)
    (root / ".dvc").mkdir()
    shutil.copy(SOURCE / ".dvc/config", root / ".dvc/config")
    params = yaml.safe_load((SOURCE / "params.yaml").read_text())
    for section, values in SETTINGS.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params | {"budgets": BUDGETS}))
    rng = np.random.default_rng(0)
    for label in range(10):
        folder = root / "images" / f"class {label}"
        folder.mkdir(parents=True)
        for i in range(40):
            image = rng.integers(0, 180, (12, 12), dtype=np.uint8)
            image[label : label + 3, 9 - label : 12 - label] += 60
            Image.fromarray(image).save(folder / f"{i}.png")
    subprocess.run(("git", "init", "--quiet"), cwd=root, check=True)


def start(root: Path, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start a run of the pipeline, in a process group of its own; it writes to ``log.txt``."""
    own = {
        "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1",
        "PREFECT_HOME": str(root / ".prefect"),
    }  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | own
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def stage_running(root: Path) -> str | None:
    """The stage whose process runs in the checkout ``root``."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if process.cwd() == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found = re.search(r"-m pipelines\.stages\.(.+)$", " ".join(words))
                if found and words[0].endswith(("python", "python3", "python3.11")):
                    return found[1]
    return None


def run(root: Path, command: tuple[str, ...]) -> dict[str, float]:
    """Run to the end without interruption; the seconds that each stage took."""
    process, lengths = start(root, command), Counter[str]()
    before = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        now = time.monotonic()
        if (stage := stage_running(root)) is not None:
            lengths[stage] += now - before
        before = now
    finish(process, root)
    missing = set(STAGES) - lengths.keys()
    assert not missing, f"stages that were not seen: {missing}"
    return dict(lengths)


def run_killed(
    root: Path, command: tuple[str, ...], rng: random.Random, lengths: dict[str, float]
) -> Counter[str]:
    """Run to the end with a kill in each stage; how many there were."""
    hit: Counter[str] = Counter()
    while len(hit) < len(STAGES):
        process = start(root, command)
        while process.poll() is None and ((stage := stage_running(root)) is None or stage in hit):
            time.sleep(0.02)
        if process.poll() is not None:
            break
        assert stage is not None
        time.sleep(rng.uniform(0, lengths[stage]))
        stage = stage_running(root) or stage
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hit[stage] += 1
        process.wait()
        end_survivors(root)
    finish(start(root, command), root)
    return hit


def end_survivors(root: Path) -> None:
    """Wait for what ends with its parent; a power cut would end the rest, so that is killed."""
    deadline = time.monotonic() + 20
    while survivors := [p for p in psutil.process_iter() if _is_in(p, root)]:
        if time.monotonic() > deadline:
            for process in survivors:
                process.kill()
        time.sleep(0.1)


def _is_in(process: psutil.Process, root: Path) -> bool:
    with suppress(psutil.Error):
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return not is_dead and Path(process.cwd()).is_relative_to(root)
    return False


def finish(process: subprocess.Popen[bytes], root: Path) -> None:
    """Wait for a run.

    Raises:
        SystemExit: With the end of its output, if it failed.
    """
    if process.wait() != 0:
        raise SystemExit((root / "log.txt").read_text()[-5000:])


def results(root: Path) -> dict[str, Any]:
    """What a run left, by name, without what depends on the moment or on the processor's load."""
    found: dict[str, Any] = {}
    for pattern in FILES:
        for file in sorted(root.glob(pattern)):
            name = str(file.relative_to(root))
            found[name] = _timeless(file) if _is_text(file) else file.read_bytes()
    found["report"] = (root / "reports/report.html").exists()
    registry = subprocess.run(
        (sys.executable, "-c", _REGISTRY), cwd=root, check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    return found | json.loads(registry.stdout.splitlines()[-1])


def _is_text(file: Path) -> bool:
    return file.suffix in (".json", ".csv")


def _timeless(file: Path) -> object:
    """The content of a JSON or CSV file without latencies, and digests of files that hold them."""
    text, measured = file.read_text(), _MEASURED
    if file.name == "configurations.json":  # whose own digest is of the latencies in it, too
        measured = re.compile(f"{_MEASURED.pattern}|^digest$")
    if not text.startswith(("{", "[")):
        table = pd.read_csv(io.StringIO(text), dtype=str)
        return table[[name for name in table if not measured.search(name)]].to_csv()
    return json.loads(
        text, object_pairs_hook=lambda pairs: {k: v for k, v in pairs if not measured.search(k)}
    )


_MEASURED = re.compile(r"latency|configurations\.json")

_REGISTRY = """
import json, mlflow
from pipelines import tracking
mlflow.set_tracking_uri(tracking.uri())
client = mlflow.MlflowClient()
models = client.search_registered_models()
versions = [v for m in models for v in client.search_model_versions(f"name='{m.name}'")]
experiments = [e.experiment_id for e in client.search_experiments()]
logged = client.search_logged_models(experiments)
linked = {v.source.removeprefix("models:/") for v in versions}
running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
print(json.dumps({
    "registered models": [m.name for m in models],
    "aliases": sorted(a for m in models for a in m.aliases),
    "versions": len(versions),
    "models without a version": len({m.model_id for m in logged} - linked),
    "runs that seem to run": len(running),
}))
"""


if __name__ == "__main__":
    main()
