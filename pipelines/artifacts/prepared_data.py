"""The prepared images, and what is known of them."""

import json
from dataclasses import dataclass
from typing import Any

from joslim.data import FileImages, Images, ImageSet, Remark
from joslim.errors import DataError
from pipelines.artifacts.files import read
from pipelines.settings import paths
from pipelines.settings.params import Params


@dataclass(frozen=True)
class DataInfo:
    """What later stages need to know of the prepared data.

    Attributes:
        name: The dataset, as it appears in the registered model's name.
        classes: Class names; labels index them.
        mean: Per channel, of the training images in [0, 1], or of 20,000 of them.
        std: Likewise.
        digest: SHA-256 over the images (in memory their pixels, else names and contents of their
            files) and labels of all splits.
        settings: What of ``params.yaml`` it was made by, as `data_settings`.
        remarks: What reading the images passed over or changed.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    settings: dict[str, Any]
    remarks: tuple[Remark, ...] = ()

    @classmethod
    def load(cls) -> "DataInfo":
        """Read what stage ``prepare`` wrote."""
        return read(paths.PREPARED / "dataset.json", cls._parse)

    @classmethod
    def load_for(cls, params: Params) -> "DataInfo":
        """Read what stage ``prepare`` wrote, made by the settings of ``params``.

        Raises:
            DataError: If it was made by others, as a stage may be run without DVC.
        """
        info = cls.load()
        for key, value in data_settings(params).items():
            if info.settings.get(key) != value:
                raise DataError(
                    f"{paths.PREPARED} was made with {key} {info.settings.get(key)}, but in "
                    f"{paths.PARAMS} it is {value}; run `dvc repro prepare`"
                )
        return info

    @classmethod
    def _parse(cls, text: str) -> "DataInfo":
        content = json.loads(text)
        return cls(
            name=content["name"],
            classes=tuple(content["classes"]),
            mean=tuple(content["mean"]),
            std=tuple(content["std"]),
            digest=content["digest"],
            settings=content["settings"],
            remarks=tuple(Remark(**remark) for remark in content["remarks"]),
        )


def data_settings(params: Params) -> dict[str, Any]:
    """What decides the prepared data, beside the images themselves."""
    data_params = params.data.model_dump(mode="json", exclude={"path"})
    return {"seed": params.seed, **{f"data.{key}": value for key, value in data_params.items()}}


def load_split(name: str) -> Images:
    """A prepared split: ``train``, ``val`` or ``test``."""
    files = paths.PREPARED / f"{name}{FileImages.suffix}"
    if files.exists():
        return FileImages.load(files)
    return ImageSet.load(paths.PREPARED / f"{name}{ImageSet.suffix}")
