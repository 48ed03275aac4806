"""Which folders are splits, and which are classes."""

from dataclasses import dataclass
from pathlib import Path

from joslim.data.listing import folders
from joslim.data.names import check_class_names, printable
from joslim.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of folders, in lower case, by the split that they hold. No class can be called so."""


@dataclass(frozen=True)
class Layout:
    """How a folder of images per class is laid out.

    Attributes:
        classes: Names of the folders that hold a class each, sorted.
        splits: The folder that holds the classes of each split; only ``train``, as the whole
            folder, if there are none for splits.
    """

    classes: tuple[str, ...]
    splits: dict[str, Path]


def find_layout(path: Path) -> Layout:
    """Understand ``path/CLASS/…`` or ``path/train/CLASS/…``, the latter with ``test`` or ``val``.

    Raises:
        DataError: If it is neither, with what stands in the way.
    """
    splits = _splits(path)
    classes = _classes(splits["train"])
    for split, folder in splits.items():
        if (others := set(_classes(folder)) ^ set(classes)) and split != "train":
            named = ", ".join(sorted(others)[:5])
            raise DataError(
                f"{printable(folder)} and {printable(splits['train'])} hold different class "
                f"folders; only one of them holds {named}"
            )
    return Layout(classes, splits)


def _splits(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise DataError(f"{printable(path)} is not a folder; expected a folder of images per class")
    found: dict[str, str] = {}
    for name in folders(path):
        split = next((split for split, names in SPLITS.items() if name.lower() in names), None)
        if split in found:
            raise DataError(f"{path} holds {found[split]} and {name}; expected one of them")
        if split is not None:
            found[split] = name
    check_splits(path, found)
    ordered = {split: path / found[split] for split in SPLITS if split in found}
    return ordered or {"train": path}


def check_splits(path: Path, found: dict[str, str]) -> None:
    """Refuse splits without one to train on, and ``val`` without ``test``.

    Args:
        path: Where they are.
        found: What they are called there.

    Raises:
        DataError: Saying what to do.
    """
    if found and "train" not in found:
        raise DataError(
            f"{printable(path)} holds {' and '.join(found.values())}, but no train to train on; "
            "these names are taken for splits, never for classes"
        )
    if "val" in found and "test" not in found:
        val, train = found["val"], found["train"]
        raise DataError(
            f"{printable(path)} holds {train} and {val}, but no test; rename {val} to test if "
            f"results are to be reported on it, or else move its images into {train}, of which a "
            "fraction is held out to choose by"
        )


def _classes(root: Path) -> tuple[str, ...]:
    classes = tuple(folders(root))
    check_class_names(classes, root)
    if len(classes) < 2:
        hint = "; train, val and test are taken for splits" if len(classes) == 0 else ""
        raise DataError(
            f"{printable(root)} holds class folders: {len(classes)}; expected at least 2{hint}"
        )
    return classes
