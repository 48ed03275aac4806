"""Fixed, disjoint splits: ``train`` to learn from, ``val`` to choose by, ``test`` to report."""

import itertools
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from joslim.data.dataset import Dataset
from joslim.data.file_images import Images
from joslim.errors import DataError


@dataclass(frozen=True)
class Splits:
    """The three splits, each in a random but fixed order."""

    train: Images
    val: Images
    test: Images

    def items(self) -> list[tuple[str, Images]]:
        """The splits with their names."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


def split(dataset: Dataset, *, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """Split a dataset, each class in the same proportion.

    Args:
        dataset: Its own test set, and its own ``val`` set, are kept as they are.
        val_fraction: Share of the training images that becomes ``val`` if the dataset has no such
            set, in (0, 1).
        test_fraction: Share that becomes ``test`` if the dataset has no test set, in (0, 1).
        seed: The same seed gives the same splits.

    Raises:
        DataError: If a class has too few images to be in every split.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = dataset.train.labels
    train = torch.randperm(len(labels), generator=generator)
    test, val = dataset.test, dataset.val
    if test is None:
        train, held_out = _divide(train, labels, test_fraction, "test", dataset.classes)
        test = dataset.train.subset(held_out)
    if val is None:
        train, held_out = _divide(train, labels, val_fraction, "val", dataset.classes)
        val = dataset.train.subset(held_out)
    return Splits(dataset.train.subset(train), val, test)


def _divide(
    indices: Tensor, labels: Tensor, fraction: float, name: str, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Take ``fraction`` of every class away from ``indices``, keeping their order."""
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, class_name in enumerate(classes):
        members = indices[labels[indices] == label]
        count = round(fraction * len(members))
        if not 0 < count < len(members):
            needed = next(n for n in itertools.count(2) if 0 < round(fraction * n) < n)
            images = "1 image" if len(members) == 1 else f"{len(members)} images"
            raise DataError(
                f"class '{class_name}' has {images}; a {name} split of {fraction:g} needs at least "
                f"{needed} of each class, to take some and leave some"
            )
        taken[members[:count]] = True
    return indices[~taken[indices]], indices[taken[indices]]
