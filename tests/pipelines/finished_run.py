"""The files that a finished run leaves for its report, with made-up but plausible numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from joslim import costs, pareto
from joslim.budgets import parse_limits
from joslim.data import ImageSet, Remark
from joslim.supernet.saved_spec import FORMAT, WEIGHTS, signed
from joslim.supernet.spec import NetworkSpec
from pipelines.artifacts import mistakes
from pipelines.artifacts.latencies import MeasuredOn
from pipelines.settings import paths

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
REMARKS = (
    Remark("files ending in .heic, passed over", 1_204, "Coat/IMG_0017.heic"),
    Remark("images turned upright, as their EXIF data says", 31, "Bag/<2>.jpg"),
)
IMAGES_EACH = 9
"""Of each class to train on."""
BUDGETS: dict[str, dict[str, object]] = {
    "tiny": {"macs": "25%"},
    "small": {"macs": "50%"},
    "medium": {"macs": "75%"},
    "full": {"macs": "100%"},
}


def write_run(
    root: Path,
    *,
    network: str = "resnet8-half",
    classes: Sequence[str] = FASHION,
    budgets: dict[str, dict[str, object]] = BUDGETS,
    objective: str = "macs",
    num_candidates: int = 48,
) -> None:
    """Write everything that the report reads, below ``root``."""
    rng = np.random.default_rng(0)
    spec = NetworkSpec(network, len(classes), 3, 32, (0.29,) * 3, (0.35,) * 3, 0.42, None)
    front, candidates, full = _front(spec, objective, num_candidates, rng)
    _write_data(root, classes, rng)
    beside = {"widths": {}, "attributes": {}, "architecture": "", "provenance": {}, WEIGHTS: ""}
    saved = signed({"format": FORMAT, **asdict(spec), **beside})
    _json(root / paths.SUPERNET / "spec.json", saved)
    _write_training(root, rng)
    folder = root / paths.FRONT_REPORT
    folder.mkdir(parents=True)
    front.to_csv(folder / "front.csv", index=False)
    candidates.to_csv(folder / "candidates.csv", index=False)
    metrics = {
        "objective": objective,
        "hypervolume": 0.684512,
        **MeasuredOn(
            "latency_ms", "AMD EPYC, onnxruntime 1.32.0, 1 thread", "2026-01-31", {}
        ).metrics,
        "num_front": len(front),
        "num_candidates": len(candidates),
        "full_val_top1": float(candidates[candidates.source == "full"].val_top1.iloc[0]),
    }
    _json(folder / "full.json", full)
    _json(folder / "metrics.json", metrics)
    versions = [
        {"id": id_, "version": i, "uri": f"models:/joslim-x/{i}", "kind": "front", "aliases": []}
        for i, id_ in enumerate(front.id, start=1)
    ]
    for name, limits in budgets.items():
        row = _best(front, limits, full)
        _write_evaluation(root, name, limits, row, classes, rng)
        i = len(versions) + 1
        versions.append(
            {"id": name, "version": i, "uri": f"models:/joslim-x/{i}", "kind": "budget"}
            | {"aliases": [f"budget-{name}"]}
        )
    comparisons = [
        {"budget": one["id"], "version": one["version"], "top1": 0.9}
        | {"before": 3, "before_top1": 0.899, "allowed": 0.011, "reason": "", "note": ""}
        for one in versions
        if one["kind"] == "budget"
    ]
    registered = {"model": "joslim-x", "versions": versions, "held_back": []}
    _json(root / paths.REGISTERED, {**registered, "comparisons": comparisons})


def _front(
    spec: NetworkSpec, objective: str, count: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    supernet = spec.build()
    space = supernet.space
    sizes = {name: make(supernet) for name, make in costs.COSTS.items()}
    generator = torch.Generator().manual_seed(0)
    known = {space.full: "full", space.smallest: "smallest"}
    for mult in np.linspace(0.42, 1, count // 2):
        known.setdefault(space.uniform(float(mult)), "proposed")
    known |= {space.random(generator): "visited" for _ in range(count - len(known))}
    rows = []
    for i, (widths, source) in enumerate(list(known.items())[:count]):
        fraction = sizes[objective].fraction(widths)
        error = 0.085 + 0.012 / fraction + (0.03 * rng.random() ** 3 if source != "full" else 0)
        rows.append(
            {
                "id": f"w-{i:010x}",
                "source": source,
                "widths": "-".join(map(str, widths)),
                "objective": sizes[objective](widths),
                "macs": sizes["macs"](widths),
                "params": sizes["params"](widths),
                "memory_bytes": sizes["memory"](widths),
                "macs_fraction": sizes["macs"].fraction(widths),
                "val_top1": round(1 - error, 4),
                "val_top5": 0.9968,
                "val_loss": round(2.7 * error, 4),
                "val_ece": 0.021,
            }
        )
    table = pd.DataFrame(rows).sort_values(["objective", "val_loss"], ignore_index=True)
    error, cost = (
        torch.tensor(c.to_numpy()).double() for c in (1 - table.val_top1, table.objective)
    )
    front = table[pareto.front_mask(error, cost).numpy()].copy()
    front["latency_ms"] = (0.4 + 1.1 * front.macs_fraction).round(4)
    full = {"macs": sizes["macs"].full, "params": sizes["params"].full}
    full |= {"memory_bytes": sizes["memory"].full, "latency_ms": 1.5}
    full |= {"objective": sizes[objective].full}
    return front, table, full


def _best(front: pd.DataFrame, limits: dict[str, object], full: dict[str, float]) -> pd.Series:
    kept = front
    for limit in parse_limits(limits):
        column = limit.quantity.column
        kept = kept[kept[column] <= limit.resolve(full[column])]
    return kept.sort_values("val_top1").iloc[-1]


def _write_data(root: Path, classes: Sequence[str], rng: np.random.Generator) -> None:
    info = {"name": "fashion-mnist", "classes": list(classes), "mean": [0.286], "std": [0.353]}
    info |= {"digest": "3f" * 32, "settings": {}, "remarks": [asdict(r) for r in REMARKS]}
    _json(root / paths.PREPARED / "dataset.json", info)
    rows = [
        (split, name, int(count + rng.integers(0, 30)), "ab" * 32)
        for split, count in (("train", 5400), ("val", 600), ("test", 1000))
        for name in classes
    ]
    table = pd.DataFrame(rows, columns=["split", "class", "count", "digest"])
    table.to_csv(root / paths.PREPARED / "manifest.csv", index=False)
    labels = torch.arange(len(classes)).repeat_interleave(IMAGES_EACH)
    images(labels).save(root / paths.PREPARED / "train.safetensors")


def images(labels: torch.Tensor, channels: int = 3, size: int = 32) -> ImageSet:
    """A disc on each image, whose place and brightness follow from its class, with noise."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = 2 * torch.pi * labels.view(-1, 1, 1) / (1 + labels.max())
    middle = size / 2 + size / 5 * torch.stack([angle.sin(), angle.cos()])
    is_disc = (rows - middle[0]).hypot(columns - middle[1]) < size / 4
    colour = 80 + 150 * torch.rand(len(labels), channels, 1, 1, generator=generator)
    noise = 20 * torch.rand(len(labels), channels, size, size, generator=generator)
    return ImageSet((colour * is_disc[:, None] + noise).byte(), labels)


def _write_training(root: Path, rng: np.random.Generator) -> None:
    num_steps = 1680
    step = np.arange(10, num_steps + 1, 10)
    warmup = np.minimum(step / (0.1 * num_steps), 1)
    rate = 0.1 * warmup * 0.5 * (1 + np.cos(np.pi * step / num_steps))
    curves = pd.DataFrame({"step": step, "epoch": step / 420, "learning_rate": rate})
    for name, floor in (("full", 0.24), ("smallest", 0.36), ("proposals", 0.34)):
        noise = rng.lognormal(0, 0.09, len(step))
        curves[f"{name}_loss"] = (
            floor + 2.2 * np.exp(-step / 120) + 0.3 * (1 - step / 1680)
        ) * noise
    curves["num_visited"] = 2 * (1 + step // 40)
    (root / paths.TRAIN_REPORT).mkdir(parents=True)
    curves.to_csv(root / paths.TRAIN_REPORT / "curves.csv", index=False)
    losses = {"full_loss": 0.24, "smallest_loss": 0.36, "proposals_loss": 0.34}
    _json(
        root / paths.TRAIN_REPORT / "metrics.json",
        {"num_steps": num_steps, "num_visited": 86, **losses},
    )


def _write_evaluation(
    root: Path,
    name: str,
    limits: dict[str, object],
    row: pd.Series,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> None:
    folder = root / paths.EVALUATE / name
    numbers = {"top1": row.val_top1 - 0.006, "top5": 0.9971, "loss": 0.262, "ece": 0.019}
    tuned = {**numbers, "top1": row.val_top1 - 0.002, "loss": 0.251, "ece": 0.0123}
    metrics = {"budget": name, "front_id": row.id, "limits": limits, "private": "norms"}
    metrics |= {c: int(row[c]) for c in ("macs", "params", "memory_bytes")}
    metrics |= {"latency_ms": float(row.latency_ms), "val_top1": float(row.val_top1 + 0.003)}
    _json(folder / "metrics.json", {**metrics, "slice": numbers, "finetuned": tuned})
    confusion = confusion_counts(len(classes), 1000, 0.9, rng)
    table = pd.DataFrame(confusion, index=list(classes), columns=list(classes))
    table.to_csv(folder / "confusion.csv", index_label="label")
    wrong = np.argwhere(confusion * (1 - np.eye(len(classes))))[: mistakes.MOST]
    made = [
        mistakes.Mistake(i, classes[label], classes[prediction], round(0.99 - i / 50, 4))
        for i, (label, prediction) in enumerate(wrong)
    ]
    mistakes.save(folder, made, images(torch.tensor(wrong[:, 0])))


def confusion_counts(
    num_classes: int, per_class: int, top1: float, rng: np.random.Generator
) -> np.ndarray:
    """Counts whose mistakes go mostly to a few neighbours."""
    weights = rng.pareto(0.6, (num_classes, num_classes))
    np.fill_diagonal(weights, 0)
    mistakes = (1 - top1) * weights / weights.sum(1, keepdims=True).clip(1e-9)
    return np.stack(
        [rng.multinomial(per_class, row) for row in mistakes + top1 * np.eye(num_classes)]
    )


def _json(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=float) + "\n")
