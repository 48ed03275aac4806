"""A labelled set of images that stay in their files until they are needed."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from joslim.data.decoding import Picture, decode, square, to_tensor
from joslim.data.file_content import content_of, opened
from joslim.data.memory import fit_in_memory
from joslim.data.memory_images import ImageSet, unit_range
from joslim.data.names import printable
from joslim.data.workers import prefetched
from joslim.errors import DataError

CHUNK = 64
"""Images that a worker decodes at a time, where the batch does not decide it."""


@dataclass(frozen=True)
class FileImages:
    """Image files and their labels, or images inside of larger files.

    Attributes:
        root: The folder that names are relative to.
        names: Of the files, or ``FILE/NAME`` of an image inside of ``FILE``, ``(n,)``; an array, as
            worker processes share it without copies.
        digests: SHA-256 of each image's encoded bytes, its first digits, ``(n,)``.
        labels: int64 class indices, ``(n,)``.
        channels: 1 for grey images, 3 for colour.
        image_size: Height and width in pixels.
        spans: First byte and number of bytes of each image inside of its file, int64 ``(n, 2)``;
            None: each file is one image.
        background: The colour under transparent pixels.
    """

    root: Path
    names: np.ndarray
    digests: np.ndarray
    labels: Tensor
    channels: int
    image_size: int
    spans: np.ndarray | None = None
    background: str = "white"

    suffix = ".json"
    """Of the files that `save` writes."""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor | slice) -> "FileImages":
        """The images at ``indices``."""
        chosen = indices if isinstance(indices, slice) else indices.numpy()
        return replace(
            self,
            names=self.names[chosen],
            digests=self.digests[chosen],
            labels=self.labels[indices],
            spans=None if self.spans is None else self.spans[chosen],
        )

    def squares(self, indices: Tensor) -> Tensor:
        """The images at ``indices``, uint8 ``(n, channels, image_size, image_size)``.

        Raises:
            DataError: If a file is missing or damaged, with its name.
        """
        return torch.stack(
            [square(self.decode(i).image, self.image_size) for i in indices.tolist()]
        )

    def originals(self, indices: Tensor) -> Iterator[Tensor]:
        """The images at ``indices`` in their own sizes, uint8 ``(channels, height, width)`` each.

        Raises:
            DataError: If a file is missing or damaged, with its name.
        """
        return (to_tensor(self.decode(i).image) for i in indices.tolist())

    def content(self, index: int) -> bytes:
        """The bytes of one image as they are encoded in its file.

        Raises:
            DataError: If its file is missing or ends before the image does, with its name.
        """
        name = str(self.names[index])
        if self.spans is None:
            return content_of(self.root / name)
        first, length = self.spans[index].tolist()
        with opened(self.root / name.partition("/")[0]) as file:
            file.seek(first)
            content = file.read(length)
        if len(content) < length:
            raise DataError(
                f"{printable(self.root / name)}: its file holds {len(content)} of its {length} "
                "bytes"
            )
        return content

    def decode(self, index: int, content: bytes | None = None) -> Picture:
        """The image at its own size, grey or RGB by ``channels``; raises as `content` does.

        Args:
            index: Of the image.
            content: Its bytes, if they have been read already.
        """
        return decode(
            self.root / str(self.names[index]),
            self.channels,
            self.background,
            self.content(index) if content is None else content,
        )

    def in_memory(self) -> ImageSet:
        """An image set in memory with all images decoded.

        Raises:
            DataError: If a file is missing or damaged, with its name.
        """
        size = (self.channels, self.image_size, self.image_size)
        images = torch.empty(len(self), *size, dtype=torch.uint8)
        chunks = torch.arange(len(self)).split(CHUNK)
        for chunk, squares in zip(chunks, prefetched(self.squares, chunks), strict=True):
            images[chunk] = squares
        return ImageSet(images, self.labels)

    def kept(self) -> "ImageSet | FileImages":
        """The images decoded in memory if they fit, for passing over them again and again."""
        fit = fit_in_memory(len(self), self.channels, self.image_size)
        return self.in_memory() if fit else self

    def batches(
        self, batch_size: int, device: torch.device | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, as floats in [0, 1], with labels, on ``device``.

        The last batch may be smaller.

        Raises:
            DataError: If a file is missing or damaged, with its name.
        """
        chunks = torch.arange(len(self)).split(batch_size)
        for chunk, squares in zip(chunks, prefetched(self.squares, chunks), strict=True):
            yield unit_range(squares, device), self.labels[chunk].to(device, non_blocking=True)

    def digest(self) -> str:
        """SHA-256 of the images' names, encoded bytes and labels."""
        text = "\n".join([*self.names, *self.digests])
        content = hashlib.sha256(text.encode(errors="surrogateescape"))
        content.update(self.labels.contiguous().numpy().tobytes())
        return content.hexdigest()

    def save(self, path: Path) -> None:
        """Write one JSON file."""
        content = {
            "root": str(self.root),
            "channels": self.channels,
            "image_size": self.image_size,
            "names": self.names.tolist(),
            "digests": self.digests.tolist(),
            "labels": self.labels.tolist(),
            "spans": None if self.spans is None else self.spans.tolist(),
            "background": self.background,
        }
        path.write_text(json.dumps(content, indent=0) + "\n")

    @classmethod
    def load(cls, path: Path) -> "FileImages":
        """Read what `save` wrote.

        Raises:
            DataError: If the file is missing or damaged.
        """
        try:
            content = json.loads(path.read_text())
            return cls(
                Path(content["root"]),
                np.array(content["names"]),
                np.array(content["digests"]),
                torch.tensor(content["labels"]),
                content["channels"],
                content["image_size"],
                None if content["spans"] is None else np.array(content["spans"]),
                content["background"],
            )
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


Images = ImageSet | FileImages
"""A labelled set of images, wherever they are."""
