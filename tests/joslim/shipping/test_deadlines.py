"""Which configuration answers in time, by what answers took lately."""

from pathlib import Path

import pytest
from slimmable_folder import load, save
from small_training import spec

from joslim.errors import BudgetError
from joslim.shipping import deadlines
from joslim.shipping.deadlines import Deadlines


@pytest.fixture
def chooser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    """Of a network whose configurations take 1, 2 and 4 ms an image; the slower, the better."""
    save(tmp_path, spec())
    times = {"w-0": 1.0, "w-2": 2.0, "w-1": 4.0}
    monkeypatch.setattr(Deadlines, "_milliseconds", lambda _, name, count: count * times[name])
    return Deadlines(load(tmp_path))


def test_on_an_idle_machine_the_best_that_fits_answers(chooser: Deadlines) -> None:
    ids = [chooser.best_within(ms).id for ms in (1.0, 1.9, 2.0, 3.9, 4.0, 1e3)]
    assert ids == ["w-0", "w-0", "w-2", "w-2", "w-1", "w-1"]
    assert chooser.best_within(8.0, num_images=4).id == "w-2"


def test_under_load_a_cheaper_one_answers_until_the_load_is_gone(
    chooser: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = chooser.best_within(5.0)
    assert best.id == "w-1"
    chooser.note(best, milliseconds=8.0)
    assert chooser.best_within(5.0).id == "w-2"
    chooser.note(best, milliseconds=100.0)
    assert chooser.best_within(5.0).id == "w-0", "the fastest, though it may be late"
    monkeypatch.setattr(deadlines, "SECONDS", 0)
    assert chooser.best_within(5.0).id == "w-1"


def test_nineteen_of_twenty_answers_are_to_be_in_time(chooser: Deadlines) -> None:
    best = chooser.best_within(5.0)
    for milliseconds in [4.0] * 49 + [400.0]:
        chooser.note(best, milliseconds)
    assert chooser.best_within(5.0).id == "w-1"
    for _ in range(5):
        chooser.note(best, 400.0)
    assert chooser.best_within(5.0).id == "w-0"


def test_a_deadline_that_no_load_explains_is_refused(chooser: Deadlines) -> None:
    with pytest.raises(BudgetError, match="the fastest configuration, 'w-0', takes 3 ms for 3 im"):
        chooser.best_within(2.0, num_images=3)


def test_batches_and_single_images_tell_of_one_load(chooser: Deadlines) -> None:
    best = chooser.best_within(200.0, num_images=32)
    assert best.id == "w-1"
    for _ in range(50):
        chooser.note(best, milliseconds=2 * 32 * 4.0, num_images=32)
    assert chooser.best_within(4.0).id == "w-2"
    chooser.note(best, milliseconds=0.0, num_images=0)


def test_what_was_measured_under_load_is_mended_by_a_faster_answer(chooser: Deadlines) -> None:
    with pytest.raises(BudgetError):
        chooser.best_within(0.5)
    chooser.note(chooser.best_within(1.0), milliseconds=0.4)
    assert chooser.best_within(0.5).id == "w-0"


def test_a_real_network_is_timed(tmp_path: Path) -> None:
    save(tmp_path, spec())
    assert Deadlines(load(tmp_path)).best_within(60_000.0, num_images=2).id == "w-1"
    with pytest.raises(BudgetError, match="deadline_ms is nan, but the fastest"):
        Deadlines(load(tmp_path)).best_within(float("nan"))
