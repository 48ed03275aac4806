"""A labelled set of images of one size, held in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from joslim.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels.

    Attributes:
        images: uint8 from 0 to 255, ``(n, channels, height, width)``.
        labels: int64 class indices, ``(n,)``.

    Raises:
        DataError: If they are of another type or shape.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _require("images", self.images, torch.uint8, "(n, channels, height, width)", 4)
        _require("labels", self.labels, torch.int64, "(n,)", 1)
        if len(self.images) != len(self.labels):
            raise DataError(
                f"there are {len(self.images)} images, but {len(self.labels)} labels; expected one "
                "for each"
            )

    suffix = ".safetensors"
    """Of the files that `save` writes."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[-1]

    def subset(self, indices: Tensor | slice) -> "ImageSet":
        """The images at ``indices``."""
        return ImageSet(self.images[indices], self.labels[indices])

    def squares(self, indices: Tensor) -> Tensor:
        """The images at ``indices``, uint8 ``(n, channels, height, width)``."""
        return self.images[indices]

    def originals(self, indices: Tensor) -> Iterator[Tensor]:
        """The images at ``indices``, uint8 ``(channels, height, width)`` each."""
        return iter(self.images[indices])

    def in_memory(self) -> "ImageSet":
        """Itself, as its images are in memory already."""
        return self

    def kept(self) -> "ImageSet":
        """Itself, as its images are in memory already."""
        return self

    def batches(
        self, batch_size: int, device: torch.device | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, as floats in [0, 1], with labels, on ``device``.

        The last batch may be smaller.
        """
        for images, labels in zip(
            self.images.split(batch_size), self.labels.split(batch_size), strict=True
        ):
            yield unit_range(images, device), labels.to(device, non_blocking=True)

    def digest(self) -> str:
        """SHA-256 of the pixels and labels."""
        content = hashlib.sha256(self.images.contiguous().numpy().tobytes())
        content.update(self.labels.contiguous().numpy().tobytes())
        return content.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        save_file(
            {"images": self.images.contiguous(), "labels": self.labels.contiguous()}, str(path)
        )

    @classmethod
    def load(cls, path: Path) -> "ImageSet":
        """Read what `save` wrote.

        Raises:
            DataError: If the file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            return cls(tensors["images"], tensors["labels"])
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def _require(name: str, given: object, dtype: torch.dtype, shape: str, num_dims: int) -> None:
    if not isinstance(given, Tensor):
        found = type(given).__name__
    else:
        found = f"{given.dtype} of shape {tuple(given.shape)}"
        if given.dtype == dtype and given.dim() == num_dims:
            return
    raise DataError(f"{name} is {found}; expected {dtype} of shape {shape}")


def unit_range(images: Tensor, device: torch.device | None = None) -> Tensor:
    """Bytes as floats in [0, 1], on ``device``; they travel as bytes."""
    return images.to(device, non_blocking=True).float().div_(255)
