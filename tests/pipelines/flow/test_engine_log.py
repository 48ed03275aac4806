import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.flow.engine_log import tell_failures_once

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


@pytest.fixture(autouse=True)
def filters() -> Iterator[None]:
    before = {name: logging.getLogger(name).filters[:] for name in LOGGERS}
    tell_failures_once()
    yield
    for name, found in before.items():
        logging.getLogger(name).filters = found


def is_told(module: str, level: int, exc_info: Any = None) -> set[bool]:
    """Whether the loggers let a record of a module through."""
    file = f"/packages/{module}.py"
    records = (
        logging.LogRecord(name, level, file, 1, "Finished in state Failed", None, exc_info)
        for name in LOGGERS
    )
    return {bool(logging.getLogger(record.name).filter(record)) for record in records}


@pytest.mark.parametrize("engine", ["flow_engine", "task_engine"])
def test_what_the_engine_says_of_a_failure_is_left_out(engine: str) -> None:
    assert is_told(engine, logging.ERROR) == {False}
    assert is_told(engine, logging.ERROR, (None, None, None)) == {False}, "a NoneType: None"
    assert is_told(engine, logging.INFO) == {True}


def test_tracebacks_and_our_own_errors_stay() -> None:
    try:
        raise ValueError
    except ValueError:
        assert is_told("task_engine", logging.ERROR, sys.exc_info()) == {True}
    assert is_told("pipeline", logging.ERROR) == {True}
