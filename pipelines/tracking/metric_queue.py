"""Metrics on their way to a server: whoever adds them does not wait, and none is lost."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pipelines.terminal.console import console

Item = TypeVar("Item")

SECONDS_BETWEEN_REQUESTS = 2.0


class MetricQueue(Generic[Item]):
    """A thread that sends items; a context whose end waits until all are sent.

    An item is kept until the server has taken it. (MLflow's own asynchronous logging drops what it
    could not send within its retries, and only logs an error.)

    Args:
        send: Sends a part of the items, in order.
        most: Items that ``send`` may be given at a time.
        unreachable: What ``send`` raises while the server is away. At the end of the context it is
            passed on, unless the context ends by another error.
    """

    def __init__(
        self, send: Callable[[Sequence[Item]], None], most: int, unreachable: type[Exception]
    ) -> None:
        self._send = send
        self._most = most
        self._unreachable = unreachable
        self._unsent: list[Item] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send_often, daemon=True)

    def add(self, items: Sequence[Item]) -> None:
        """Put ``items`` into the queue, to be sent soon."""
        self._unsent += items

    def __enter__(self) -> "MetricQueue[Item]":
        self._thread.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        if error_type is None:
            self._send_all()
        else:
            self._try_to_send()

    def _send_often(self) -> None:
        while not self._ending.wait(SECONDS_BETWEEN_REQUESTS):
            self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            self._send_all()
        except self._unreachable as error:
            console.print(f"{len(self._unsent)} metrics are not sent yet: {error}")

    def _send_all(self) -> None:
        while batch := self._unsent[: self._most]:
            self._send(batch)
            del self._unsent[: len(batch)]
