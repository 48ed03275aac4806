"""What latencies were measured on, in the front's metrics and in the registry's tags."""

from pipelines.artifacts.latencies import MeasuredOn, measured_on

HERE = MeasuredOn("latency_ms", "a toy, 1 thread", "2026-01-31", {"a busy machine": ["w-1"]})
THERE = MeasuredOn("latency_ms_pi5", "a board", "", {})


def test_what_was_written_is_read() -> None:
    metrics = {"hypervolume": 0.5, **HERE.metrics, **THERE.metrics}
    assert metrics["latency_device"] == "a toy, 1 thread"
    assert metrics["latency_device_pi5"] == "a board"
    assert measured_on(metrics) == [HERE, THERE]
    assert [one.name for one in measured_on(metrics)] == ["latency", "latency@pi5"]


def test_tags_have_what_is_known() -> None:
    known = {"latency_device": "a toy, 1 thread", "latency_date": "2026-01-31"}
    assert HERE.tags("w-0") == known
    assert HERE.tags("w-1") == {**known, "latency_doubt": "a busy machine"}
    assert THERE.tags("w-1") == {"latency_device_pi5": "a board"}
