"""A small project as the stages before `register` leave it."""

import csv
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from joslim import costs
from joslim.supernet.artifact import extract_subnetwork, load_slimmable, save_slimmable
from joslim.supernet.private import Private, private_parameters
from joslim.supernet.slimmable_model import Configuration
from joslim.supernet.spec import NetworkSpec
from pipelines.artifacts.budget_model import BudgetModel
from pipelines.artifacts.latencies import MeasuredOn
from pipelines.stages import assemble, register

SPEC = NetworkSpec("resnet8", 10, 1, 12, (0.3,), (0.2,), min_width=0.25, divisor=None)
WIDTH_MULTS = {"w-small": 0.25, "w-medium": 0.5, "w-full": 1.0}
VAL_TOP1 = {"w-small": 0.80, "w-medium": 0.85, "w-full": 0.91}


@dataclass
class Project:
    """A checkout with a front of three and a budget ``tiny`` of its own."""

    root: Path
    network: str = SPEC.network

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work inside it, with its embedded database."""
        before = Path.cwd()
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            os.chdir(self.root)
            try:
                yield
            finally:
                os.chdir(before)

    def register(self) -> list[dict[str, Any]]:
        """Run the stage; returns the versions that it wrote down."""
        with self.entered():
            register.main()
        return json.loads((self.root / "reports/registered.json").read_text())["versions"]

    def rows(self) -> list[dict[str, str]]:
        with (self.root / "reports/front/front.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        with (self.root / "reports/front/front.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def copy(self, target: Path) -> "Project":
        """Its files without a registry."""
        skip = shutil.ignore_patterns("mlflow.db", "mlruns", ".joslim", "registered.json")
        copied = Path(shutil.copytree(self.root, target, ignore=skip))
        return Project(copied, self.network)

    def write_manifest(self, val_images: int = 6000, digest: str = "ab" * 32) -> None:
        """The prepared images: as many of every class."""
        lines = [f"val,class {i},{val_images // 10},{digest}" for i in range(10)]
        text = "\n".join(["split,class,count,digest", *lines]) + "\n"
        (self.root / "data/prepared/manifest.csv").write_text(text)

    def train(self, seed: int = 0, gain: float = 0.0) -> None:
        """Weights of another seed, whose validation top-1 is higher everywhere by ``gain``."""
        torch.manual_seed(seed)
        spec = replace(SPEC, network=self.network)
        network = spec.build(allow=(self.network,)).eval()
        sizes = {name: cost(network) for name, cost in costs.COSTS.items()}
        rows, configurations = [], []
        for name, width_mult in WIDTH_MULTS.items():
            widths = network.space.uniform(width_mult)
            numbers = {
                "macs": sizes["macs"](widths),
                "params": sizes["params"](widths),
                "memory_bytes": sizes["memory"](widths),
                "latency_ms": round(1 + width_mult, 3),
                "val_loss": 0.5,
                "val_top1": round(VAL_TOP1[name] + gain, 4),
                "val_top5": 0.99,
            }
            configurations.append((Configuration(name, widths, numbers), network.extract(widths)))
            rows.append(
                {
                    "id": name,
                    **numbers,
                    "macs_fraction": sizes["macs"].fraction(widths),
                    "source": "full" if width_mult == 1 else "visited",
                    "widths": "-".join(map(str, widths)),
                }
            )
        self.write_rows(rows)
        columns = ("macs", "params", "memory_bytes", "latency_ms")
        full = {column: rows[-1][column] for column in columns}
        (self.root / "reports/front/full.json").write_text(json.dumps(full))
        doubts = {"the process waited for a processor in 40% of the time": ["w-medium"]}
        metrics = MeasuredOn("latency_ms", "a toy, 1 thread", "2026-01-31", doubts).metrics
        (self.root / "reports/front/metrics.json").write_text(json.dumps(metrics))
        shutil.rmtree(self.root / "models/front", ignore_errors=True)
        save_slimmable(self.root / "models/front", network, spec, configurations, full)
        self.add_budget("tiny", "w-medium", val_top1=round(0.86 + gain, 4), limits={"macs": "50%"})
        self.assemble(tiny={"macs": "50%"})

    def copy_registered(self, target: Path) -> "Project":
        """Its files and its registry, whose records point to the copy."""
        shutil.copytree(self.root, target)
        places = (("experiments", "artifact_location"), ("logged_models", "artifact_location"))
        with sqlite3.connect(target / "mlflow.db") as connection:
            for table, column in (*places, ("runs", "artifact_uri")):
                change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                connection.execute(change, (str(self.root), str(target)))
        return Project(target, self.network)

    def write_params(self, **settings: object) -> None:
        """Change sections of ``params.yaml``."""
        file = self.root / "params.yaml"
        before = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**before, **settings}))

    def add_budget(
        self,
        name: str,
        front_id: str,
        val_top1: float,
        limits: dict[str, str],
        private: Private = "norms",
    ) -> None:
        """A fine-tuned model as `finetune` and `evaluate` leave it."""
        front = self.root / "models/front"
        allow = (self.network,)
        subnetwork = extract_subnetwork(front, front_id, allow=allow)
        image = torch.zeros(2, *load_slimmable(front, allow=allow).input_shape)
        parameters = private_parameters(subnetwork.model, private, image)
        with torch.no_grad():
            for parameter in parameters:
                subnetwork.model.get_parameter(parameter).mul_(1.01)
        row = next(row for row in self.rows() if row["id"] == front_id)
        metrics = {
            "budget": name,
            "front_id": front_id,
            "limits": limits,
            "private": private,
            "macs": int(row["macs"]),
            "params": int(row["params"]),
            "memory_bytes": int(row["memory_bytes"]),
            "latency_ms": 1.4,
            "val_top1": val_top1,
            "slice": {"top1": 0.84, "top5": 0.98, "loss": 0.5, "ece": 0.02},
            "finetuned": {"top1": 0.855, "top5": 0.985, "loss": 0.45, "ece": 0.01},
        }
        folder = self.root / "reports/evaluate" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        with self.entered():
            BudgetModel(name, front_id, limits, private, val_top1).save(subnetwork, parameters)

    def assemble(self, **budgets: dict[str, str]) -> None:
        """Name the budgets, and run the stage."""
        self.write_params(network={"name": self.network}, budgets=budgets)
        with self.entered(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(assemble, "read_params", lambda: SimpleNamespace(budgets=budgets))
            assemble.main()


def make(root: Path, network: str = SPEC.network) -> Project:
    """A project that is not registered yet."""
    for folder in ("data/prepared", "reports/front", "reports/evaluate/tiny"):
        (root / folder).mkdir(parents=True)
    (root / "dvc.yaml").touch()
    dataset = {"name": "toy", "classes": [f"class {i}" for i in range(10)], "digest": "0" * 64}
    (root / "data/prepared/dataset.json").write_text(json.dumps(dataset))
    project = Project(root, network)
    project.write_manifest()
    project.train()
    return project
