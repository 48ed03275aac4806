import pytest

from pipelines.terminal import progress
from pipelines.terminal.progress import Progress, at_most_every, track


def test_a_record_is_decoded_to_what_was_encoded() -> None:
    made = Progress("training", 3, 9, 6.5, "loss 0.1, \u2265 \n")
    assert Progress.decode(made.encode()) == made
    assert "\n" not in made.encode()
    assert Progress.decode("training: 3/9") is None


def test_items_pass_and_each_counts_when_the_next_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.RECORDS_VARIABLE, "1")
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_RECORDS", 0)
    items = track("abc", "spelling", 3, describe=str.upper)
    assert next(items) == "a"
    assert capsys.readouterr().out == ""
    assert list(items) == ["b", "c"]
    shown = [Progress.decode(line) for line in capsys.readouterr().out.splitlines()]
    told = [(p.done, p.total, p.text) for p in shown if p]
    assert told == [(1, 3, "A"), (2, 3, "B"), (3, 3, "C")]
    assert shown[-1] is not None
    assert shown[-1].seconds_left == 0


def test_time_left_of_resumed_work_counts_only_what_was_done_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.RECORDS_VARIABLE, "1")
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_RECORDS", 0)
    seconds = 0
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds)
    for step in track([91, 92], "training", position=lambda step: (step, 100)):
        seconds += 60 if step == 91 else 1
    first, second = map(Progress.decode, capsys.readouterr().out.splitlines())
    assert first is not None
    assert first.seconds_left is None, "the first one also warms up"
    assert second is not None
    assert second.seconds_left == 8, "one step took one second"


def test_a_text_is_cut_between_its_parts() -> None:
    text = "epoch 1.0, loss 0.249, front 0.683"
    assert progress.fitting(text, 34) == text
    assert progress.fitting(text, 33) == "epoch 1.0, loss 0.249"
    assert progress.fitting(text, 5) == progress.fitting(text, -5) == ""


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    list(track("abc", "spelling", 3))
    assert capsys.readouterr().out.splitlines()[-1] == "spelling: 3/3, 0 s left"


def test_frequent_progress_is_thinned_out_but_for_its_end() -> None:
    shown: list[Progress] = []
    show = at_most_every(3600, shown.append)
    for done in range(1, 6):
        show(Progress("training", done, 5, 0, ""))
    assert [p.done for p in shown] == [1, 5]
