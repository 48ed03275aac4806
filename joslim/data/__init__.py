"""Images: where they come from, how they are split, and how batches are drawn."""

from joslim.data.augmentation import Augmentation
from joslim.data.dataset import Dataset
from joslim.data.files import FileImages, Images
from joslim.data.images import ImageSet
from joslim.data.sources import classes, read
from joslim.data.splits import Splits, split
from joslim.data.stream import TrainingStream

__all__ = [
    "Augmentation",
    "Dataset",
    "FileImages",
    "ImageSet",
    "Images",
    "Splits",
    "TrainingStream",
    "classes",
    "read",
    "split",
]
