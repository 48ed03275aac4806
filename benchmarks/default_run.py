"""The default run, once per seed: accuracy, front and time. Its table stands in the README.

    python -m benchmarks.default_run --seeds 0 1 2

Every seed runs in a clone of the last commit, by the command that `make run` ends with. Finished
seeds stand in ``benchmarks/results/default_run.json`` and are not run again.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import machine
from joslim import costs
from joslim.front import Subnetworks
from joslim.supernet.storage import load_supernet
from pipelines.artifacts.prepared_data import load_split
from pipelines.settings import paths
from pipelines.settings.loading import read_params

RESULTS = Path("benchmarks/results/default_run.json")
CLONES = paths.STATE / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    os.chdir(paths.root())
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for seed in seeds:
        if seed not in [row["seed"] for row in rows]:
            rows.append(run(seed))
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(summary(rows))


def run(seed: int) -> dict[str, Any]:
    """Run the pipeline with ``seed`` in a clone of its own, and read what it measured."""
    clone = (CLONES / f"default-run-{seed}").absolute()
    shutil.rmtree(clone, ignore_errors=True)
    _git("clone", "--quiet", str(Path.cwd()), str(clone))
    params = clone / "params.yaml"
    params.write_text(re.sub(r"^seed: \d+", f"seed: {seed}", params.read_text(), flags=re.M))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    environment["PREFECT_HOME"] = str(clone / ".prefect")
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "pipelines.flow"], cwd=clone, env=environment, check=True)
    minutes = (time.monotonic() - start) / 60
    with contextlib.chdir(clone):
        row = {"seed": seed, "commit": _git("rev-parse", "--short=12", "HEAD"), "minutes": minutes}
        row |= _measured()
    shutil.rmtree(clone)
    return row | {"machine": machine.describe()}


def _measured() -> dict[str, Any]:
    """Numbers of the finished run in the working directory; the full width is measured here."""
    params = read_params()
    network, _ = load_supernet(paths.SUPERNET)
    subnetworks = Subnetworks(network, load_split("train"), params.front.calibration_images)
    full = subnetworks.measure(subnetworks.get(network.space.full), load_split("test"))
    full_macs = costs.macs(network).full
    front = pd.read_csv(paths.FRONT_REPORT / "front.csv")
    metrics = json.loads((paths.FRONT_REPORT / "metrics.json").read_text())
    budgets = {}
    for name in params.budgets:
        found = json.loads((paths.EVALUATE / name / "metrics.json").read_text())
        budgets[name] = {
            "macs_percent": 100 * found["macs"] / full_macs,
            "test_top1": 100 * found["finetuned"]["top1"],
        }
    return {
        "hypervolume": metrics["hypervolume"],
        "num_front": len(front),
        "num_front_from_25_percent": int((front["macs_fraction"] >= 0.25).sum()),
        "full_val_top1": 100 * metrics["full_val_top1"],
        "full_test_top1": 100 * full.top1,
        "budgets": budgets,
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over the seeds, in Markdown."""
    lines = ["| model | MACs | test top-1 |", "|---|---|---|"]
    for name in rows[0]["budgets"]:
        found = pd.DataFrame([row["budgets"][name] for row in rows])
        cells = [_spread(found[column], " %") for column in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    table = pd.DataFrame(rows)
    full = _spread(table["full_test_top1"], " %")
    lines.append(f"| full width | 100 % | {full} |")
    lines += ["", f"n = {len(rows)} seeds ({', '.join(map(str, table['seed']))})"]
    for column in ("hypervolume", "num_front", "num_front_from_25_percent", "minutes"):
        lines.append(f"{column}: {_spread(table[column], '', 4 if column == 'hypervolume' else 1)}")
    lines += [f"{key}: {value}" for key, value in rows[-1]["machine"].items()]
    return "\n".join(lines)


def _spread(values: pd.Series, unit: str, digits: int = 2) -> str:
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}{unit}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
