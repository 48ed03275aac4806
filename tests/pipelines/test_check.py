"""What ``joslim check`` says of a run before it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from script_project import ROOT
from settings_file import write

OWN_NETWORK = """
from torch import nn
def net(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, num_classes))
"""


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a folder of images, and a network of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "mynet.py").write_text(OWN_NETWORK)
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(count + (name == "cat")):
                Image.new("L", (9, 9)).save(folder / f"{number}.png")
    file = write(tmp_path / "params.yaml", "data", source="folder", path="pets")
    settings = yaml.safe_load(file.read_text())
    settings["network"]["name"] = "mynet:net"
    settings["budgets"] = {"phone": {"macs": "150k", "memory": "90%"}, "far": {"latency": "1s"}}
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    return tmp_path


def check() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.entry", "check"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_it_says_what_will_run(pets: Path) -> None:
    done = check()
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "params.yaml is right. A run by it:"
    for line in (
        "images 10 in pets, fewest of dog: 4",
        "as colour ones of 32 × 32 pixels",
        "classes 2: cat, dog",
        "network mynet:net, random weights",
        "1 of 1 groups of channels can shrink, with 100% of the MACs",
    ):
        assert line in lines
    assert any(line.startswith("phone macs <= 150k 150k ") for line in lines)
    assert any(line.startswith("memory <= 90% ") for line in lines)
    assert done.stderr == ""


def test_a_class_without_images_is_refused(pets: Path) -> None:
    for split in ("train", "test"):
        for file in (pets / "pets" / split / "dog").iterdir():
            file.rename(file.with_suffix(".txt"))
    done = check()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "ConfigError: params.yaml: data.path: pets holds no images of dog; known"
    )


@pytest.mark.parametrize(
    ("source", "file", "names", "message"),
    [
        ("cifar10", "batches.meta.txt", 10, "lacks data_batch_1.bin, data_batch_2.bin"),
        ("shards", "classes.txt", 2, "holds no shards, as *.tar"),
    ],
)
def test_files_that_are_not_there_are_named(
    pets: Path, source: str, file: str, names: int, message: str
) -> None:
    (pets / file).write_text("".join(f"class{i}\n" for i in range(names)))
    write(pets / "params.yaml", "data", source=source, path=".")
    done = check()
    assert done.returncode == 1
    assert f"ConfigError: params.yaml: data.path: . {message}" in done.stderr
