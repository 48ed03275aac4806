"""A Dask cluster for the stages that run side by side, for users who have one."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.states import State

from joslim.errors import JoslimError

if TYPE_CHECKING:
    from prefect_dask import DaskTaskRunner

ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
"""Dask's own environment variable: the address of a scheduler, such as ``tcp://10.0.0.1:8786``."""


class Cluster:
    """Workers that run Prefect tasks, each in a checkout on a file system that they share."""

    def __init__(self, runner: "DaskTaskRunner") -> None:
        self._runner = runner

    async def run(
        self, task: Task[..., Any], parameters: Mapping[str, Any], wait_for: Sequence[State]
    ) -> State:
        """Run ``task`` on a worker, which ends what it has begun even if this is cancelled."""
        submitted = self._runner.submit(
            task,
            dict(parameters),
            wait_for=wait_for,  # type: ignore[arg-type]  # Prefect takes states too
        )
        future = submitted.wrapped_future
        try:
            return await asyncio.to_thread(future.result)
        except asyncio.CancelledError:
            future.cancel()
            raise


@contextmanager
def cluster() -> Iterator[Cluster | None]:
    """The cluster of the scheduler at ``DASK_SCHEDULER_ADDRESS``; None without that variable.

    Raises:
        JoslimError: If prefect-dask is not installed, or no scheduler answers.
    """
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        yield None
        return
    try:
        from prefect_dask import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise JoslimError(
            f"{ADDRESS_VARIABLE} is {address}, but prefect-dask is not installed; "
            "run pip install -e '.[dask]'"
        ) from error
    with DaskTaskRunner(address=address) as runner:
        try:
            runner.client.scheduler_info()
        except (OSError, ValueError) as error:
            raise JoslimError(
                f"{ADDRESS_VARIABLE} is {address}, but no scheduler answers there: {error}"
            ) from error
        yield Cluster(runner)
