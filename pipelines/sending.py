"""Metrics on their way to MLflow: training does not wait for them, and none is lost."""

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.stage import console

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

SECONDS_BETWEEN_REQUESTS = 2.0
METRICS_PER_REQUEST = 1000
"""MLflow's limit."""


class MetricSender:
    """A thread that sends metrics of one run; a context whose end waits until all are sent.

    A metric is kept until MLflow has taken it. (MLflow's own asynchronous logging drops what it
    could not send within its retries, and only logs an error.)
    """

    def __init__(self, mlflow_client: "MlflowClient", run_id: str) -> None:
        self._client = mlflow_client
        self._run_id = run_id
        self._unsent: list[Metric] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send_often, daemon=True)

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Send numbers of one step, soon."""
        from mlflow.entities import Metric

        now = int(datetime.now().timestamp() * 1000)
        self._unsent += [Metric(name, float(value), now, step) for name, value in metrics.items()]

    def __enter__(self) -> "MetricSender":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._send()

    def _send_often(self) -> None:
        from mlflow.exceptions import MlflowException

        while not self._ending.wait(SECONDS_BETWEEN_REQUESTS):
            try:
                self._send()
            except MlflowException as error:
                console.print(f"{len(self._unsent)} metrics wait for MLflow: {error}", markup=False)

    def _send(self) -> None:
        while batch := self._unsent[:METRICS_PER_REQUEST]:
            self._client.log_batch(self._run_id, metrics=batch)
            del self._unsent[: len(batch)]
