"""Some images of ``test`` that a budget's model takes for something else."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from joslim.data import Images
from joslim.errors import DataError
from pipelines.artifacts.files import read
from pipelines.pictures.tiles import cut, strip, tiles

MOST = 12
"""Mistakes that are kept per model."""

TABLE, SHEET = "mistakes.json", "mistakes.png"


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else.

    Attributes:
        index: Among the images of ``test``.
        label: Its class.
        prediction: What the model took it for.
        confidence: Of the model in that, in [0, 1].
    """

    index: int
    label: str
    prediction: str
    confidence: float


def surest(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> list[Mistake]:
    """The mistakes that a model is surest of, one of each pair of label and prediction.

    Args:
        logits: ``(n, classes)``.
        labels: Class indices, ``(n,)``.
        classes: Their names.
    """
    confidence, prediction = logits.softmax(1).max(1)
    table = pd.DataFrame(
        {"label": labels.numpy(), "prediction": prediction, "confidence": confidence}
    )
    wrong = table[table["label"] != table["prediction"]]
    order = wrong.sort_values("confidence", ascending=False, kind="stable")
    kept = order.drop_duplicates(["label", "prediction"]).head(MOST)
    return [
        Mistake(int(i), classes[row.label], classes[row.prediction], round(row.confidence, 4))
        for i, row in zip(kept.index, kept.itertuples(), strict=True)
    ]


def save(folder: Path, mistakes: Sequence[Mistake], test: Images) -> None:
    """Write them down, and their images side by side; without any, one empty pixel."""
    rows = [asdict(mistake) for mistake in mistakes]
    (folder / TABLE).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    sheet = Image.new("L", (1, 1))
    if mistakes:
        sheet = strip(tiles(test.squares(torch.tensor([mistake.index for mistake in mistakes]))))
    sheet.save(folder / SHEET)


def load(folder: Path) -> list[tuple[Mistake, Image.Image]]:
    """What `save` wrote: the mistakes with their images.

    Raises:
        DataError: If a file is missing or damaged.
    """
    mistakes = read(folder / TABLE, lambda text: [Mistake(**row) for row in json.loads(text)])
    if not mistakes:
        return []
    try:
        with Image.open(folder / SHEET, formats=["PNG"]) as sheet:
            images = cut(sheet)
    except OSError as error:
        raise DataError(f"{folder / SHEET} cannot be read: {error}; run `dvc repro`") from error
    if len(images) != len(mistakes):
        raise DataError(
            f"{folder / SHEET} has {len(images)} images, but {TABLE} {len(mistakes)} mistakes; "
            "run `dvc repro`"
        )
    return list(zip(mistakes, images, strict=True))
