"""The stages that read images, on a folder and on shards that do not fit in memory."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2.functional import pil_to_tensor

from joslim.data import Augmentation, FileImages, ImageSet, memory
from joslim.errors import DataError
from pipelines.artifacts import mistakes
from pipelines.artifacts.mistakes import Mistake
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.pictures.contact_sheet import contact_sheet
from pipelines.stages import evaluate, finetune, front, prepare, train

ROOT = Path(__file__).resolve().parents[3]


def tiny_params(images: Path) -> dict[str, Any]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "folder", "path": str(images), "channels": 3, "image_size": 12}
    params["network"] |= {"name": "resnet8-half"}
    params["search"] |= {"strategy": "slim", "num_initial": 2}
    params["training"] |= {"epochs": 1, "batch_size": 8, "refresh_images": 16, "crop_padding": 1}
    params["front"] = {"num_proposals": 2, "calibration_images": 16}
    params["budgets"] = {"all": {"macs": "100%"}}
    return params


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("light", "dark"):
        (root / name).mkdir()
        for i in range(40):
            pixels = rng.integers(120 * (name == "light"), 240, (14, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def shards(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images, in the folder's order."""
    root = tmp_path_factory.mktemp("shards")
    (root / "classes.txt").write_text("dark\nlight\n")
    for label, name in enumerate(("dark", "light")):
        (root / "label.cls").write_text(str(label))
        with tarfile.open(root / f"train-{label:06d}.tar", "w") as tar:
            for file in sorted((images / name).iterdir()):
                tar.add(file, file.name)
                tar.add(root / "label.cls", f"{file.stem}.cls")
    (root / "label.cls").unlink()
    return root


def enter(
    root: Path, images: Path, patch: pytest.MonkeyPatch, limit: int, source: str = "folder"
) -> None:
    root.mkdir()
    (root / "dvc.yaml").touch()
    params = tiny_params(images)
    params["data"]["source"] = source
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.chdir(root)
    patch.setattr(memory, "MEMORY_LIMIT", limit)


@pytest.mark.filterwarnings("ignore:the loss is .* that of a guess")
def test_training_from_files_or_shards_ends_with_the_weights_of_training_from_memory(
    images: Path,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    weights, infos = [], []
    for source, path, limit, kind, said in (
        ("folder", images, 2**30, ImageSet, "kept in memory"),
        ("folder", images, 0, FileImages, "stay in their files"),
        ("shards", shards, 0, FileImages, "stay in their files"),
    ):
        enter(tmp_path / f"{source}-{limit}", path, monkeypatch, limit, source)
        prepare.main()
        assert said in capsys.readouterr().out
        assert isinstance(load_split("train"), kind)
        infos.append(DataInfo.load())
        train.main()
        (file,) = Path("models/supernet").glob("*.safetensors")
        weights.append(load_file(file))
    for key, tensor in weights[0].items():
        assert all(torch.equal(tensor, others[key]) for others in weights[1:]), key
    assert len({info.mean for info in infos}) == 1
    assert len({info.digest for info in infos}) == 3

    front.main()
    finetune.main("all")
    evaluate.main("all")
    assert Path("reports/evaluate/all/metrics.json").exists()
    counts = Path("reports/evaluate/all/confusion.csv").read_text().splitlines()[1:]
    assert sum(int(count) for line in counts for count in line.split(",")[1:]) == 8
    test, classes = load_split("test"), DataInfo.load().classes
    assert mistakes.load(Path("reports/evaluate/all")) == [], "as everything is told apart"
    mistakes.save(Path(), [Mistake(3, *classes, 0.5)], test)
    ((_, image),) = mistakes.load(Path())
    assert torch.equal(pil_to_tensor(image), test.squares(torch.tensor([3]))[0])
    sheet = contact_sheet(load_split("train"), classes, Augmentation(crop_scale=(0.5, 1)), seed=0)
    assert list(sheet.rows) == list(classes)
    assert len(sheet.augmented) == len(classes)


def test_damaged_images_are_listed_before_anything_is_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    enter(tmp_path / "files", images, monkeypatch, 0)
    file = images / "dark" / "3.png"
    content = file.read_bytes()
    file.write_bytes(content[:200])
    try:
        with pytest.raises(DataError, match=r"1 image cannot be read;.*\n.*dark/3.png"):
            prepare.main()
    finally:
        file.write_bytes(content)
    assert not Path("data/prepared").exists()
