"""What DVC learns of files that are the user's own."""

import os
from pathlib import Path

import pytest
import yaml

from pipelines.settings.params import Params
from pipelines.stages import inputs

ROOT = Path(__file__).resolve().parents[3]


def params(**changes: dict[str, object]) -> Params:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in changes.items():
        content[section] |= values
    return Params.model_validate(content)


def test_an_image_that_comes_goes_or_changes_is_noticed(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    image = tmp_path / "cat" / "1.png"
    image.write_bytes(b"a picture")
    chosen = params(data={"path": str(tmp_path)})
    first = inputs.images(chosen)
    assert first["files"] == 1
    assert inputs.images(chosen) == first
    image.write_bytes(b"A picture")
    os.utime(image, ns=(1, 1))
    changed = inputs.images(chosen)
    (tmp_path / "cat" / "2.png").write_bytes(b"another")
    more = inputs.images(chosen)
    assert len({state["digest"] for state in (first, changed, more)}) == 3
    assert inputs.images(params()) == inputs.images(params(data={"path": None}))


def test_what_the_reader_follows_is_watched(tmp_path: Path):
    """Links to folders, around in a circle too; names that are not UTF-8; and no pipe is opened."""
    root, more = tmp_path / "images", tmp_path / "more"
    for folder in (root / "cat", more):
        folder.mkdir(parents=True)
        (folder / os.fsdecode(b"\xff.png")).write_bytes(b"a picture")
    os.mkfifo(root / "cat/pipe.png")
    (root / "cat/gone.png").symlink_to("gone")
    (root / "cat/around").symlink_to(root)
    chosen = params(data={"source": "folder", "path": str(root)})
    states = [inputs.images(chosen)]
    (root / "cat/more").symlink_to(more)
    states.append(inputs.images(chosen))
    (more / os.fsdecode(b"\xff.png")).write_bytes(b"another picture")
    states.append(inputs.images(chosen))
    assert [state["files"] for state in states] == [1, 2, 2]
    assert len({state["digest"] for state in states}) == 3


def test_what_the_reader_passes_over_as_hidden_is_not_watched(tmp_path: Path):
    (tmp_path / "cat/.ipynb_checkpoints").mkdir(parents=True)
    chosen = params(data={"source": "folder", "path": str(tmp_path)})
    first = inputs.images(chosen)
    (tmp_path / "cat/.ipynb_checkpoints/1.png").touch()
    assert inputs.images(chosen) == first


def test_a_shard_that_changes_is_noticed(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "train-000000.tar").write_bytes(b"images")
    chosen = params(data={"source": "shards", "path": str(tmp_path)})
    first = inputs.images(chosen)
    (tmp_path / "train-000000.tar").write_bytes(b"more images")
    second = inputs.images(chosen)
    (tmp_path / "classes.txt").write_text("cat\ncow\n")
    assert len({state["digest"] for state in (first, second)}) == 2
    os.utime(tmp_path / "classes.txt", ns=(1, 1))
    assert inputs.images(chosen)["digest"] not in (first["digest"], second["digest"])


def test_code_of_a_factory_and_what_it_imports_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_blocks.py").write_text("SIZE = 8\n")
    (tmp_path / "own_net.py").write_text("from own_blocks import SIZE\n")
    (tmp_path / "unused.py").write_text("")
    (tmp_path / "start.pt").write_bytes(b"weights")
    chosen = params(network={"name": "own_net:build", "weights": "start.pt"})
    first = inputs.network(chosen)
    assert list(first) == ["own_blocks.py", "own_net.py", "start.pt"]
    (tmp_path / "own_blocks.py").write_text("SIZE = 9\n")
    second = inputs.network(chosen)
    assert [name for name in first if first[name] != second[name]] == ["own_blocks.py"]


@pytest.mark.parametrize("name", ["resnet20", "torchvision:resnet18", "timm:resnet18"])
def test_networks_by_name_have_no_code_of_the_user(name: str):
    assert inputs.network(params(network={"name": name})) == {}
