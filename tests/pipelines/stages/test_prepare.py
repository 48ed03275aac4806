"""What stage ``prepare`` says of the images that it has read."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from script_project import ROOT

from pipelines.artifacts.prepared_data import DataInfo
from pipelines.settings import paths
from pipelines.stages import prepare
from pipelines.terminal.progress import RECORDS_VARIABLE, Progress


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that reads a folder of images, some of them of unusual kinds."""
    images = tmp_path / "images"
    rng = np.random.default_rng(0)
    for name in ("[cat]", "dog"):
        (images / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)
            Image.fromarray(pixels[..., : 3 + (i == 0)]).save(images / name / f"{i}.png")
    Image.new("RGB", (90, 9)).save(images / "dog/1.png")
    (images / "[cat]/1.heic").touch()
    (images / "dog" / os.fsdecode(b"\xff.txt")).touch()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "folder", "path": str(images), "channels": 3, "image_size": 8}
    params["data"] |= {"background": "#00ff00"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return images


def test_what_was_read_is_said_and_handed_on(pets: Path, capsys: pytest.CaptureFixture[str]):
    prepare.main()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("│ [cat] │ 8 ") for line in lines)
    assert lines[-6:] == [
        "val is 0.1 of the images to train on",
        "test is 0.1 of all images",
        "files ending in .heic, passed over: 1 (as [cat]/1.heic)",
        r"files ending in .txt, passed over: 1 (as dog/\udcff.txt)",
        "transparent images, laid on #00ff00: 2 (as [cat]/0.png)",
        "warning: images more than 4 times as long as wide, of which the middle is read: 1 (as "
        "dog/1.png)",
    ]
    remarks = DataInfo.load().remarks
    assert [f"{r.what}: {r.count} (as {r.example})" for r in remarks[:3]] == lines[-4:-1]
    assert DataInfo.load().settings["data.background"] == "#00ff00"
    assert (paths.PREPARED / "train.safetensors").exists()


def test_how_far_it_is_can_be_watched(
    pets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(RECORDS_VARIABLE, "1")
    prepare.main()
    records = [Progress.decode(line) for line in capsys.readouterr().out.splitlines()]
    told = [record for record in records if record is not None]
    assert (told[-1].title, told[-1].done, told[-1].total) == ("reading images", 20, 20)
