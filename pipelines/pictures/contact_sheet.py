"""Some training images of each class, as the network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from joslim.data import Augmentation, Images, TrainingStream
from pipelines.pictures.tiles import LARGEST, data_uri, tiles

CLASSES, EACH = 12, 7
"""Classes at most, and images of each."""


@dataclass(frozen=True)
class ContactSheet:
    """Pictures as addresses that hold them, as `data_uri` makes them.

    Attributes:
        rows: Of each class that is shown, some images by its name.
        augmented: The first image of each row as a step of training sees it; empty if training
            does not change images.
        size: Pixels along an edge of the images, before large ones are shrunk.
    """

    rows: dict[str, list[str]]
    augmented: list[str]
    size: int

    @property
    def stored(self) -> int:
        """Pixels along an edge of what is on the page."""
        return min(self.size, LARGEST)

    @property
    def shown(self) -> int:
        """Size on the page, a multiple of the pixels."""
        return self.stored * (LARGEST // self.stored)


def contact_sheet(
    images: Images, classes: Sequence[str], augmentation: Augmentation, seed: int
) -> ContactSheet:
    """Draw images of each class, or of some classes where there are many.

    Args:
        images: To train on.
        classes: Names; labels index them.
        augmentation: What training does to them.
        seed: Decides what is drawn, and how that is augmented.
    """
    generator = torch.Generator().manual_seed(seed)
    known = images.labels.unique()
    labels = known[torch.randperm(len(known), generator=generator)[:CLASSES].sort().values].tolist()
    drawn = {label: _draw(images.labels == label, generator) for label in labels}
    rows = {classes[label]: _pictures(images.squares(own)) for label, own in drawn.items()}
    first = images.subset(torch.stack([own[0] for own in drawn.values()]))
    changed = []
    if augmentation != Augmentation():
        stream = TrainingStream(first, len(first), seed=seed, augmentation=augmentation)
        batch, order = stream.batch(0)
        changed = _pictures((255 * batch[order.argsort()]).round().byte())
    return ContactSheet(rows, changed, images.image_size)


def _draw(is_member: Tensor, generator: torch.Generator) -> Tensor:
    members = is_member.nonzero()[:, 0]
    return members[torch.randperm(len(members), generator=generator)[:EACH]]


def _pictures(images: Tensor) -> list[str]:
    return [data_uri(tile) for tile in tiles(images)]
