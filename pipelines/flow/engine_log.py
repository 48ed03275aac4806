"""Prefect's log without what is told elsewhere in better words."""

import logging

_ENGINE = ("flow_engine", "task_engine")


def tell_failures_once() -> None:
    """Leave out how Prefect's engine tells of runs that failed or were interrupted.

    Whoever asked for a run tells of it in the stage's words. Errors of Prefect's and of our own
    code, which have a traceback, stay.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_is_no_repetition)


def _is_no_repetition(record: logging.LogRecord) -> bool:
    has_traceback = record.exc_info is not None and record.exc_info[0] is not None
    return record.levelno < logging.ERROR or record.module not in _ENGINE or has_traceback
