"""Images: where they come from, how they are split, and how batches are drawn."""

from joslim.data.augmentation import Augmentation
from joslim.data.batches import TrainingStream
from joslim.data.dataset import Dataset
from joslim.data.file_images import FileImages, Images
from joslim.data.listing import list_files
from joslim.data.memory_images import ImageSet
from joslim.data.remarks import Remark
from joslim.data.sources import classes, read
from joslim.data.splits import Splits, split

__all__ = [
    "Augmentation",
    "Dataset",
    "FileImages",
    "ImageSet",
    "Images",
    "Remark",
    "Splits",
    "TrainingStream",
    "classes",
    "list_files",
    "read",
    "split",
]
