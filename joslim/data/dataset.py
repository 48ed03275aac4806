"""A classification dataset before it is split."""

from dataclasses import dataclass

from joslim.data.file_images import Images
from joslim.data.remarks import Remark


@dataclass(frozen=True)
class Dataset:
    """A classification dataset before it is split.

    Attributes:
        classes: Class names; labels index them.
        train: Images to train on, and to validate on if there is no ``val``.
        test: Images that nothing but the final evaluation sees; None if the source has none.
        val: Images to choose by, of a source that holds some apart; None if it does not.
        remarks: What reading it passed over or changed.
    """

    classes: tuple[str, ...]
    train: Images
    test: Images | None
    val: Images | None = None
    remarks: tuple[Remark, ...] = ()
