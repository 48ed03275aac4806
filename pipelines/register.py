"""Stage ``register``: every model of the front and of the budgets goes into MLflow's registry.

Runs on every ``dvc repro``, as the registry may be lost without DVC's knowing; where it is complete
already, nothing is exported and neither PyTorch nor MLflow is imported.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from joslim.errors import DataError
from pipelines import paths, registry, tracking
from pipelines.budgets import QUANTITIES
from pipelines.lookup import Entry
from pipelines.records import PREFIX
from pipelines.registry import Collection, Submission
from pipelines.stage import console, run_stage, track

COSTS = tuple(quantity.column for quantity in QUANTITIES.values())


def main() -> None:
    collection = collect()
    entries = registry.registered(collection)
    if entries is None:
        with tracking.stage_run("register", params={"model": collection.name}) as run:
            entries = registry.register(collection, run, track)
            run.metrics({"num_versions": len(entries)})
    versions = [
        {
            "id": entry.id,
            "version": entry.version,
            "uri": entry.uri,
            "kind": entry.kind,
            "aliases": list(entry.aliases),
        }
        for entry in entries
    ]
    content = {"model": collection.name, "versions": versions}
    paths.REGISTERED.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"{collection.name}: {len(entries)} versions of the current front")


def collect() -> Collection:
    """What the stages before have made."""
    dataset = _read_json(paths.PREPARED / "dataset.json")
    front = _read_json(paths.FRONT_REPORT / "metrics.json")
    submissions = [*_front(), *_budgets()]
    network = _read_json(submissions[0].folder / "spec.json")["network"]
    name = PREFIX + re.sub(r"[^\w.]+", "-", f"{network}-{dataset['name']}")
    return Collection(
        name,
        submissions,
        {column: front[f"full_{column}"] for column in COSTS if f"full_{column}" in front},
        partial(_describe, network, dataset),
    )


def _front() -> Iterator[Submission]:
    path = paths.FRONT_REPORT / "front.csv"
    with _open(path) as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise DataError(f"{path} has no rows; expected one per model of the front")
    for row in rows:
        numbers = {
            column: float(row[column])
            for column in (*COSTS, "macs_fraction", "val_loss", "val_top1", "val_top5")
            if row.get(column)
        }
        yield Submission(
            "front",
            row["id"],
            paths.FRONT / row["id"],
            numbers,
            _tags(numbers, row["widths"]),
            f"A slice of the supernet, not fine-tuned: {_sentence(numbers)}.",
        )


def _budgets() -> Iterator[Submission]:
    for name in yaml.safe_load(paths.PARAMS.read_text())["budgets"]:
        metrics = _read_json(paths.EVALUATE / name / "metrics.json")
        tested = {f"test_{key}": value for key, value in metrics["finetuned"].items()}
        costs = {column: metrics[column] for column in COSTS if column in metrics}
        numbers = {k: float(v) for k, v in {**costs, **_validated(metrics), **tested}.items()}
        folder = paths.BUDGETS / name
        widths = "-".join(map(str, _read_json(folder / "spec.json")["widths"]))
        limits = ", ".join(f"{key} ≤ {limit}" for key, limit in metrics["limits"].items())
        yield Submission(
            "budget",
            name,
            folder,
            numbers,
            {**_tags(numbers, widths), "limits": limits},
            f"Fine-tuned for the budget **{name}** ({limits}): {_sentence(numbers)}.",
        )


def _validated(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key.startswith("val_")}


def _tags(numbers: Mapping[str, float], widths: str) -> dict[str, str]:
    """Numbers in a form for people; the registry compares the metrics, not these."""
    shown = {
        q.name: q.format(numbers[q.column]) for q in QUANTITIES.values() if q.column in numbers
    }
    tops = {key: f"{numbers[key]:.2%}" for key in ("val_top1", "test_top1") if key in numbers}
    return {**shown, **tops, "widths": widths}


def _sentence(numbers: Mapping[str, float]) -> str:
    costs = ", ".join(
        f"{q.format(numbers[q.column])} {'' if q.name == 'latency' else q.label}".strip()
        for q in QUANTITIES.values()
        if q.column in numbers
    )
    tops = [
        f"{numbers[f'{split}_top1']:.2%} top-1 on {split}"
        for split in ("val", "test")
        if f"{split}_top1" in numbers
    ]
    return f"{costs}; {', '.join(tops)}"


def _describe(network: str, dataset: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """The registered model's description, in Markdown."""
    name = entries[0].name
    shape = f"{dataset['channels']}×{dataset['image_size']}×{dataset['image_size']}"
    lines = [
        f"One **{network}**, trained once on **{dataset['name']}**, at every width configuration "
        "of its front, and fine-tuned for every budget. "
        f"Input: float32 images in [0, 1], N×{shape}; output: {dataset['num_classes']} logits.",
        "",
        "| version | budget | macs | params | memory | latency | val top-1 | test top-1 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for entry in sorted(entries, key=lambda e: (e.numbers["macs"], e.kind == "budget")):
        costs = [
            q.format(entry.numbers[q.column]) if q.column in entry.numbers else ""
            for q in QUANTITIES.values()
        ]
        tops = [
            f"{entry.numbers[key]:.2%}" if key in entry.numbers else ""
            for key in ("val_top1", "test_top1")
        ]
        budget = f"**{entry.id}**" if entry.kind == "budget" else ""
        link = f"[{entry.version}](#/models/{name}/versions/{entry.version})"
        lines.append(f"| {' | '.join([link, budget, *costs, *tops])} |")
    return "\n".join(
        [
            *lines,
            "",
            "```",
            "joslim lookup --budget macs=50%",
            f'mlflow.pytorch.load_model("{entries[0].uri}")',
            "```",
        ]
    )


def _open(path: Path) -> Any:
    try:
        return path.open(newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; run `dvc repro`") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; run `dvc repro`") from error


if __name__ == "__main__":
    run_stage(main)
