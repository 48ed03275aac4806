"""The flow: one task per DVC stage, each after the stages that it reads from."""

import os
import signal
from asyncio import CancelledError, Semaphore, current_task, gather, get_running_loop
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed, Failed, State

from joslim.errors import JoslimError
from joslim.machine.device import num_processors
from pipelines import tracking
from pipelines.flow import dvc, results
from pipelines.flow.cluster import Cluster, cluster
from pipelines.flow.engine_log import tell_failures_once
from pipelines.settings.loading import load_params
from pipelines.terminal.display import Display
from pipelines.terminal.progress import SECONDS_BETWEEN_LINES, Progress, at_most_every

MAX_SIDE_BY_SIDE = 4
"""Stages at a time, however many cores there are: each has PyTorch in memory."""

INTERRUPTED = "Interrupted"
"""What a run and its stages are called in Prefect after Ctrl-C or an end by the system."""


@flow(name="joslim")
async def pipeline() -> State:
    """From raw images to a registered model for every budget."""
    tell_failures_once()
    if deployment.id is not None:
        _take_sigterm_as_ctrl_c()
    try:
        budgets = list(load_params().budgets)
        async with _running(budgets) as run:
            noted = await run.stage("inputs")
            await run.find_unchanged()
            prepared = await run.stage("prepare", after=[noted])
            trained = await run.stage("train", after=[noted, prepared])
            front = await run.stage("front", after=[trained])
            await results.publish_front()
            evaluated = await run.specialise(budgets, after=front)
            assembled = await run.stage("assemble", after=[front, *evaluated])
            registered = await run.stage("register", after=[assembled])
            await results.publish_budgets(budgets)
            await run.stage("report", after=[registered])
    except JoslimError as error:
        if deployment.id is not None:
            get_run_logger().error(str(error))
        return Failed(message=str(error))
    except CancelledError:
        return Cancelled(name=INTERRUPTED, message="The next run goes on where this one stopped.")
    return Completed(message=results.outcome(len(budgets)))


@task(cache_policy=NO_CACHE, task_run_name="{stage}")
async def reproduce(stage: str, threads: int, known_unchanged: bool) -> State[None]:
    """Completed, Restored from DVC's cache, Cached where nothing had changed, Failed, Interrupted.

    A failure is told in the stage's own words.
    """
    logger, display = get_run_logger(), Display.current()
    log_progress = at_most_every(SECONDS_BETWEEN_LINES, lambda p: logger.info(str(p)))
    with display.running(stage) as shown:

        def on_line(line: str) -> None:
            logger.info(line)
            shown.line(line)

        def on_progress(progress: Progress) -> None:
            log_progress(progress)
            shown.progress(progress)

        variables = {
            tracking.PIPELINE_RUN_VARIABLE: str(flow_run.id),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            **({"COLUMNS": str(display.columns)} if display.columns else {}),
        }
        try:
            outcome: dvc.Outcome = "unchanged"
            if not known_unchanged:
                outcome = await dvc.reproduce(stage, variables, on_line, on_progress)
        except dvc.StageError as error:
            shown.outcome = "failed"
            return Failed(message=str(error))
        except CancelledError:
            return Cancelled(name=INTERRUPTED)
        shown.outcome = "ran" if outcome == "ran" else "cached"
    if outcome == "ran":
        return Completed()
    if outcome == "restored":
        return Completed(name="Restored", message=f"DVC had what {stage} makes in its cache.")
    return Completed(name="Cached", message=f"Nothing that {stage} depends on has changed.")


OUTCOMES = {"Completed": "ran", "Restored": "cached", "Cached": "cached"}
"""What the display calls the ends of `reproduce`."""


def _take_sigterm_as_ctrl_c() -> None:
    """Of a run that a deployment has started, and that its runner or worker ends by SIGTERM.

    Prefect's own handler stops the event loop, so that stages could not be ended in order.
    """
    task = current_task()
    assert task is not None

    def interrupt() -> None:
        if not task.cancelling():
            task.cancel()

    get_running_loop().add_signal_handler(signal.SIGTERM, interrupt)


class _Run:
    """A run of the flow: which stages may run at the same time, and how far it is."""

    def __init__(self, num_budgets: int, progress_id: UUID) -> None:
        self._cores = num_processors()
        self._side_by_side = max(1, min(self._cores, num_budgets, MAX_SIDE_BY_SIDE))
        self._slots = Semaphore(self._side_by_side)
        self._unchanged: set[str] = set()
        self._changed_since: set[UUID] = set()
        self._progress_id = progress_id
        self._num_stages = 7 + 2 * num_budgets
        self._num_done = 0

    async def find_unchanged(self) -> None:
        """Ask DVC once which stages need no call of their own, unless what they read changes."""
        self._unchanged = await dvc.unchanged()
        self._changed_since.clear()

    async def stage(
        self,
        name: str,
        *,
        after: Sequence[State] = (),
        threads: int | None = None,
        on: Cluster | None = None,
    ) -> State:
        """Run one stage, here or on a cluster.

        Raises:
            StageError: If it fails.
        """
        unchanged = name in self._unchanged and not {s.id for s in after} & self._changed_since
        named = reproduce.with_options(name=name.partition("@")[0])
        given = {
            "stage": name,
            "threads": threads or self._cores,
            "known_unchanged": unchanged,
        }
        state: State[None]
        if on is not None and not unchanged:
            with Display.current().running(name) as shown:
                state = await on.run(named, given, wait_for=after)
                shown.outcome = OUTCOMES.get(state.name or "", "failed")
        else:
            state = await named(  # type: ignore[misc]  # Prefect types it as not async
                **given, wait_for=after, return_state=True
            )
        if state.is_cancelled():
            raise CancelledError
        if not state.is_completed():
            raise dvc.StageError(f"{name}: {state.message}")
        if state.name != "Cached":
            self._changed_since.add(state.id)
        self._num_done += 1
        await aupdate_progress_artifact(
            self._progress_id, progress=100 * self._num_done / self._num_stages
        )
        return state

    async def specialise(self, budgets: Sequence[str], *, after: State) -> list[State]:
        """Fine-tune and evaluate for every budget, side by side; on a Dask cluster if there is one.

        One that fails does not stop the others.

        Raises:
            StageError: If one has failed.
            JoslimError: If the cluster does not answer.
        """
        threads = max(1, self._cores // self._side_by_side)

        async def finetune_and_evaluate(budget: str, on: Cluster | None) -> State:
            how: dict[str, Any] = {"threads": threads, "on": on}
            async with self._slots if on is None else nullcontext():
                tuned = await self.stage(f"finetune@{budget}", after=[after], **how)
                return await self.stage(f"evaluate@{budget}", after=[tuned], **how)

        with cluster() as workers:
            work = (finetune_and_evaluate(budget, workers) for budget in budgets)
            outcomes = await gather(*work, return_exceptions=True)
        states = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            states.append(outcome)
        return states


@asynccontextmanager
async def _running(budgets: Sequence[str]) -> AsyncIterator[_Run]:
    """Show a run on the terminal, unless a deployment started it, and its progress in Prefect."""
    longest = max(budgets, key=len)
    labels = ["register", f"finetune@{longest}", f"evaluate@{longest}"]
    with Display(labels, enabled=deployment.id is None):
        progress_id = await acreate_progress_artifact(
            0.0, key="progress", description="Stages done."
        )
        yield _Run(len(budgets), progress_id)
