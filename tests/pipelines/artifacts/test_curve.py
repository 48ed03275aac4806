from pathlib import Path

import pandas as pd
import pytest

from pipelines.artifacts.curve import STEPS_PER_POINT, Curve

NUM_STEPS = 24


def add(curve: Curve, first: int, last: int) -> None:
    for step in range(first, last + 1):
        curve.add(step, {"full_loss": 1 / step, "epoch": step / 8})


def test_points_are_means_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl", NUM_STEPS)
    add(curve, 1, NUM_STEPS)
    table = curve.table()
    assert list(table["step"]) == curve.ends() == [STEPS_PER_POINT, 2 * STEPS_PER_POINT, NUM_STEPS]
    members = (range(1, 11), range(11, 21), range(21, 25))
    means = [sum(1 / step for step in steps) / len(steps) for steps in members]
    assert table["full_loss"].tolist() == pytest.approx(means)


def test_steps_done_again_after_a_crash_count_once(tmp_path: Path) -> None:
    whole = Curve(tmp_path / "whole.jsonl", NUM_STEPS)
    add(whole, 1, NUM_STEPS)
    path = tmp_path / "curve.jsonl"
    add(Curve(path, NUM_STEPS), 1, 17)
    with path.open("a") as file:
        file.write('\n{"step": 18, "full_l')
    again = Curve(path, NUM_STEPS)
    assert again.ends() == [10]
    add(again, 16, NUM_STEPS)
    pd.testing.assert_frame_equal(again.table(), whole.table())
    pd.testing.assert_frame_equal(Curve(path, NUM_STEPS).table(), whole.table())


def test_a_full_disk_does_not_stop_the_training(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl", NUM_STEPS)
    (tmp_path / "curve.jsonl").symlink_to("/dev/full")
    with pytest.warns(UserWarning, match=r"curve.jsonl cannot be written: .*No space left"):
        add(curve, 1, NUM_STEPS)
    assert curve.ends() == [10, 20, NUM_STEPS]
