"""Checkpoints, whole and damaged."""

import warnings
from pathlib import Path

import pytest
from small_training import train_until, trainer

from joslim.errors import CheckpointError
from joslim.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("damage", ["flipped", "cut short", "gone"])
def test_after_damage_training_continues_from_the_checkpoint_before(tmp_path: Path, damage: str):
    whole = trainer()
    curve = [step.full_loss for step in whole.run()]
    file = tmp_path / "checkpoint.pt"
    train_until(9, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flipped" else content[:100])
        rest = [step.full_loss for step in trainer().run(file)]
    assert rest == curve[4:]
    told = [str(warning.message) for warning in caught]
    assert told == [] if damage == "gone" else f"{file} is damaged: its digest is wrong" in told[0]


def test_a_damaged_checkpoint_never_replaces_the_whole_one_before(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    for step in (1, 2):
        save_checkpoint(file, {"step": step})
    file.write_bytes(b"damaged")
    save_checkpoint(file, {"step": 3})
    assert load_checkpoint(file) == {"step": 3}
    file.unlink()
    assert load_checkpoint(file) == {"step": 1}


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"not a checkpoint")
    with (
        pytest.warns(UserWarning, match="digest is wrong"),
        pytest.raises(CheckpointError, match=r"no checkpoint is whole of .*checkpoint.pt; delete"),
    ):
        next(trainer().run(file))
    file.unlink()
    save_checkpoint(file, {"step": 3})
    with pytest.raises(CheckpointError, match=r"does not fit this training"):
        next(trainer().run(file))


def test_a_whole_checkpoint_that_cannot_be_loaded_is_named(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(file, {"step": Path("no plain value")})
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is whole, but cannot be read: .*"):
        load_checkpoint(file)
    file.unlink()
    save_checkpoint(file, [1])  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is a list; expected a dict"):
        load_checkpoint(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be read: .*directory"):
        load_checkpoint(file)


def test_on_a_full_disk_training_goes_on(tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "checkpoint.tmp").symlink_to(full)
    with pytest.warns(UserWarning, match="cannot be written: .*No space left"):
        save_checkpoint(tmp_path / "checkpoint.pt", {"step": 3})
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_come_by_time_as_well(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    steps = trainer().run(file, checkpoint_steps=1000, checkpoint_minutes=1e-9)
    next(steps), next(steps)
    assert file.exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    train_until(9, file)
    with pytest.raises(CheckpointError, match="of a training with num_steps 14; expected 7"):
        next(trainer(epochs=1).run(file))
    with pytest.raises(CheckpointError, match="does not fit this training"):
        next(trainer(weight_average=0.9).run(file))
