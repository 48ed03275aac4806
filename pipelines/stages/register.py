"""Stage ``register``: every model of the front and of the budgets goes into MLflow's registry.

Runs on every ``dvc repro``, as the registry may be lost without DVC's knowing; where it is complete
already, nothing is exported and PyTorch is not imported.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from joslim.budgets import parse_limits, stated
from joslim.errors import DataError
from pipelines import tracking
from pipelines.artifacts import registered
from pipelines.artifacts.files import read, read_json
from pipelines.artifacts.latencies import MeasuredOn, measured_on
from pipelines.registry import model_card
from pipelines.registry import registration as registry
from pipelines.registry.lookup import SLIMMABLE
from pipelines.registry.records import PREFIX
from pipelines.registry.submissions import Collection, Submission, Validation, digest_of_files
from pipelines.settings import paths
from pipelines.settings.register_params import register_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main() -> None:
    collection = collect()
    registration = registry.registered(collection)
    if registration is None:
        digest = read_json(paths.PREPARED / "dataset.json")["digest"]
        logged = {"model": collection.name, "require": collection.require}
        with tracking.stage_run("register", params=logged, data_digest=digest) as run:
            registration = registry.register(collection, run, track)
            run.metrics({"num_versions": len(registration.entries)})
            run.tags(registered.run_tags(_told(registration)))
    told = _told(registration)
    paths.REGISTERED.write_text(json.dumps(told, indent=1) + "\n")
    console.print(registered.table(told), soft_wrap=True)
    which = "candidates" if told["held_back"] else "current"
    console.print(f"{collection.name}: {len(registration.entries)} versions of this run, {which}")


def _told(registration: registry.Registration) -> dict[str, Any]:
    """What the flow and the report read."""
    versions = [
        {
            "id": entry.id,
            "version": entry.version,
            "uri": entry.uri,
            "kind": entry.kind,
            "aliases": list(entry.aliases),
        }
        for entry in registration.entries
    ]
    decision = registration.decision
    return {
        "model": registration.entries[0].name,
        "versions": versions,
        "held_back": list(decision.reasons),
        "comparisons": [asdict(one) for one in decision.comparisons],
    }


def collect() -> Collection:
    """What the stages before have made."""
    dataset = read_json(paths.PREPARED / "dataset.json")
    spec = read_json(paths.SLIMMABLE / "spec.json")
    content = read_json(paths.SLIMMABLE / "configurations.json")
    digest = digest_of_files(paths.SLIMMABLE)
    latencies = read(
        paths.FRONT_REPORT / "metrics.json", lambda text: measured_on(json.loads(text))
    )
    here = f"{latencies[0].device}, measured on {latencies[0].date}"
    by_default = PREFIX + re.sub(r"[^\w.]+", "-", f"{spec['network']}-{dataset['name']}")
    settings = _settings()
    wanted = register_params(settings.get("register", {}))
    return Collection(
        wanted.model_name or by_default,
        [
            _slimmable(content, digest),
            *_front(content, digest, latencies),
            *_budgets(content, digest, latencies, list(settings["budgets"])),
        ],
        spec,
        _costs(content["full"]),
        _validation(),
        wanted.require,
        partial(model_card.describe, spec, dataset["name"], dataset["classes"], here),
    )


def _validation() -> Validation:
    rows = [row for row in _read_csv(paths.PREPARED / "manifest.csv") if row["split"] == "val"]
    counts = [int(row["count"]) for row in rows]
    text = json.dumps([[row["class"], row["count"], row["digest"]] for row in rows])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Validation(digest, sum(counts), max(counts) / sum(counts))


def _slimmable(content: Mapping[str, Any], digest: str) -> Submission:
    count = len(content["configurations"])
    return Submission(
        SLIMMABLE,
        SLIMMABLE,
        paths.SLIMMABLE,
        digest,
        is_slice=False,
        numbers={},
        tags={},
        labels={},
        summary=f"One network with all weights, for {count} width configurations.",
    )


def _front(
    content: Mapping[str, Any], digest: str, latencies: Sequence[MeasuredOn]
) -> Iterator[Submission]:
    front = {row["id"] for row in _read_csv(paths.FRONT_REPORT / "front.csv")}
    for row in content["configurations"]:
        if row["id"] in front:
            numbers = row["numbers"]
            yield Submission(
                "front",
                row["id"],
                paths.SLIMMABLE,
                digest,
                is_slice=True,
                numbers=numbers,
                tags={"widths": _joined(row["widths"])} | _measured(row["id"], latencies),
                labels=model_card.tags(numbers),
                summary=f"A slice of the slimmable network: {model_card.sentence(numbers)}.",
            )


def _budgets(
    content: Mapping[str, Any],
    digest: str,
    latencies: Sequence[MeasuredOn],
    names: Sequence[str],
) -> Iterator[Submission]:
    slices = {row["id"]: row for row in content["configurations"]}
    for name in names:
        metrics = read_json(paths.EVALUATE / name / "metrics.json")
        tested = {f"test_{key}": float(value) for key, value in metrics["finetuned"].items()}
        numbers = {**_costs(metrics), "val_top1": float(metrics["val_top1"]), **tested}
        folder = paths.SLIMMABLE if name in slices else paths.BUDGETS / name
        row = slices.get(name) or read_json(folder / "spec.json")
        how = "The best slice for" if metrics["private"] == "nothing" else "Fine-tuned for"
        limits = ", ".join(f"{key} ≤ {limit}" for key, limit in metrics["limits"].items())
        yield Submission(
            "budget",
            name,
            folder,
            digest if name in slices else digest_of_files(folder),
            is_slice=name in slices,
            numbers=numbers,
            tags={"widths": _joined(row["widths"]), "limits": limits}
            | _measured(metrics["front_id"], latencies),
            labels=model_card.tags(numbers),
            summary=f"{how} the budget {name} ({limits}): {model_card.sentence(numbers)}.",
            limits=parse_limits(metrics["limits"]),
        )


def _settings() -> dict[str, Any]:
    """``params.yaml`` as it is: to check all of it takes PyTorch, and stages before have."""
    settings: dict[str, Any] = yaml.safe_load(paths.PARAMS.read_text())
    return settings


def _measured(front_id: str, latencies: Sequence[MeasuredOn]) -> dict[str, str]:
    """What the latencies of a sub-network were measured on, and what speaks against them."""
    return {key: text for one in latencies for key, text in one.tags(front_id).items()}


def _joined(widths: Mapping[str, int]) -> str:
    return "-".join(map(str, widths.values()))


def _costs(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {q.column: float(numbers[q.column]) for q in stated(numbers)}


def _read_csv(path: Path) -> list[dict[str, str]]:
    rows = read(path, lambda text: list(csv.DictReader(text.splitlines())))
    if not rows:
        raise DataError(f"{path} has no rows; expected one per model")
    return rows


if __name__ == "__main__":
    run_command(main)
