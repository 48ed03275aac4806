"""Stage ``prepare``: read the dataset, split it, and write down what it holds."""

import hashlib
import json
import shutil
from dataclasses import asdict

import pandas as pd
import torch
from rich.table import Table

from joslim import data
from joslim.data import Dataset, FileImages, Images, Splits
from joslim.data.decoding import IS_LONG
from joslim.data.memory import MEMORY_LIMIT, decoded_bytes
from pipelines import tracking
from pipelines.artifacts.prepared_data import DataInfo, data_settings
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.settings.params import DataParams, Params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track

SAMPLE = 20_000
"""Training images, of those that stay in their files, whose mean and std are taken."""

BATCH = 512


def main() -> None:
    params = load_params()
    with tracking.stage_run("prepare", params={"data": params.data.model_dump()}) as run:
        dataset = data.read(
            params.data.source,
            params.data.path,
            channels=params.data.channels,
            image_size=params.data.image_size,
            download=paths.STATE / "downloads",
            background=params.data.background,
            track=track,
        )
        splits = data.split(
            dataset,
            val_fraction=params.data.val_fraction,
            test_fraction=params.data.test_fraction,
            seed=params.seed,
        )
        manifest = _manifest(splits, dataset.classes)
        info = _info(params, splits, dataset)
        _write(splits, manifest, info)
        run.artifact(paths.PREPARED / "manifest.csv")
    _show(manifest, splits.train, params.data)
    _show_remarks(dataset, params.data)


def _manifest(splits: Splits, classes: tuple[str, ...]) -> pd.DataFrame:
    """Images per split and class, and their digest."""
    rows = []
    for split, images in splits.items():
        for label, name in enumerate(classes):
            members = images.subset(images.labels == label)
            rows.append((split, name, len(members), members.digest()))
    return pd.DataFrame(rows, columns=["split", "class", "count", "digest"])


def _info(params: Params, splits: Splits, dataset: Dataset) -> DataInfo:
    source, path = params.data.source, params.data.path
    train = splits.train
    sample = train.subset(slice(SAMPLE)) if isinstance(train, FileImages) else train
    totals = squares = torch.zeros(())
    count = 0
    for images, _ in sample.batches(BATCH):
        pixels = images.double()
        totals = totals + pixels.sum((0, 2, 3))
        squares = squares + pixels.square().sum((0, 2, 3))
        count += pixels[:, 0].numel()
    mean = totals / count
    std = (squares / count - mean**2).sqrt().clamp(min=1e-3)
    digests = "".join(images.digest() for _, images in splits.items())
    return DataInfo(
        name=source if path is None or path.name == "" else path.name,
        classes=dataset.classes,
        mean=tuple(round(value, 6) for value in mean.tolist()),
        std=tuple(round(value, 6) for value in std.tolist()),
        digest=hashlib.sha256(digests.encode()).hexdigest(),
        settings=data_settings(params),
        remarks=dataset.remarks,
    )


def _write(splits: Splits, manifest: pd.DataFrame, info: DataInfo) -> None:
    shutil.rmtree(paths.PREPARED, ignore_errors=True)
    paths.PREPARED.mkdir(parents=True)
    for split, images in splits.items():
        images.save(paths.PREPARED / f"{split}{images.suffix}")
    manifest.to_csv(paths.PREPARED / "manifest.csv", index=False)
    (paths.PREPARED / "dataset.json").write_text(json.dumps(asdict(info), indent=1) + "\n")


def _show(manifest: pd.DataFrame, train: Images, params: DataParams) -> None:
    counts = manifest.pivot(index="class", columns="split", values="count")[
        ["train", "val", "test"]
    ]
    table = Table("class", *counts.columns, title="images")
    for name, row in counts.iterrows():
        table.add_row(str(name), *(f"{count:,}" for count in row))
    table.add_section()
    table.add_row("all", *(f"{count:,}" for count in counts.sum()))
    console.print(table)
    is_left = isinstance(train, FileImages)
    size = decoded_bytes(counts.to_numpy().sum(), params.channels, params.image_size)
    console.print(
        f"images {'stay in their files' if is_left else 'are kept in memory'}: decoded they take "
        f"{size / 2**30:.2f} GiB (limit: {MEMORY_LIMIT / 2**30:g} GiB)"
    )


def _show_remarks(dataset: Dataset, params: DataParams) -> None:
    """Where splits come from, what was passed over or changed; in lines that a log keeps whole."""
    for split, own, share in (
        ("val", dataset.val, f"{params.val_fraction:g} of the images to train on"),
        ("test", dataset.test, f"{params.test_fraction:g} of all images"),
    ):
        origin = share if own is None else "the source's own"
        console.print(f"{split} is {origin}", soft_wrap=True)
    for remark in dataset.remarks:
        mark = "warning: " if remark.what == IS_LONG else ""
        text = f"{mark}{remark.what}: {remark.count:,} (as {remark.example})"
        console.print(text, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
