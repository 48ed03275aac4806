"""Images in memory: where they come from, how they are split, and how batches are drawn."""

from joslim.data.images import ImageSet
from joslim.data.sources import Dataset, read
from joslim.data.splits import Splits, split
from joslim.data.stream import TrainingStream

__all__ = ["Dataset", "ImageSet", "Splits", "TrainingStream", "read", "split"]
