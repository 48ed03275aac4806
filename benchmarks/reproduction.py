"""Whether a change of code changes results: digests of one short run of the default settings.

Runs data preparation, training for one epoch, the front and one budget's fine-tuning on one thread,
in a folder of their own. Two commits that print the same digests on one machine compute the same,
to the last bit. For an older commit, put this file beside its code.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml
from safetensors.torch import load_file

CHECKOUT = Path(__file__).resolve().parent.parent
STAGES = ("inputs", "prepare", "train", "front", "finetune")
BUDGET = "tiny"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_stages(Path(folder))
        for name, digest in digests(Path(folder)).items():
            print(f"{name:<12} {digest}")


def run_stages(folder: Path) -> None:
    """Run the stages in ``folder`` as ``dvc.yaml`` says, without DVC."""
    shutil.copy(CHECKOUT / "dvc.yaml", folder)
    settings = (CHECKOUT / "params.yaml").read_text()
    settings, count = re.subn(r"(?m)^training:\n  epochs: \d+", "training:\n  epochs: 1", settings)
    assert count == 1, "the epochs of training are not where they were in params.yaml"
    settings, count = re.subn(r"(?m)^  private: \w+", "  private: all", settings)
    assert count == 1, "what fine-tuning trains is not where it was in params.yaml"
    (folder / "params.yaml").write_text(settings)
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | own
    for name in STAGES:
        command = stages[name].get("do", stages[name])["cmd"].replace("${key}", BUDGET)
        words = [sys.executable, *command.split()[1:]]
        subprocess.run(words, cwd=folder, env=environment, check=True, stdout=sys.stderr)


def digests(folder: Path) -> dict[str, str]:
    """The first 16 digits of SHA-256 of what the stages left, and two numbers to look at."""
    curves = pd.read_csv(folder / "reports/train/curves.csv")
    search = json.loads((folder / "models/supernet/search.json").read_text())
    front = pd.read_csv(folder / "reports/front/front.csv")
    metrics = json.loads((folder / "reports/front/metrics.json").read_text())
    return {
        "weights": _weights(folder / "models/supernet/weights.safetensors"),
        "losses": _digest(curves.filter(like="_loss").to_csv()),
        "history": _digest(json.dumps(search["history"])),
        "front": _digest(front.drop(columns=["latency_ms", "latency_spread"]).to_csv()),
        "fine-tuned": _weights(folder / "models/budgets" / BUDGET / "weights.safetensors"),
        "hypervolume": str(metrics["hypervolume"]),
        "last loss": str(curves["full_loss"].iloc[-1]),
    }


def _weights(file: Path) -> str:
    tensors = load_file(file)
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(name.encode() + tensors[name].numpy().tobytes())
    return content.hexdigest()[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
