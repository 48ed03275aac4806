"""A classification dataset before it is split."""

from dataclasses import dataclass

from joslim.data.file_images import Images


@dataclass(frozen=True)
class Dataset:
    """A classification dataset before it is split.

    Attributes:
        classes: Class names; labels index them.
        train: Images to train and validate on.
        test: Images that nothing but the final evaluation sees; None if the source has none.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images | None
