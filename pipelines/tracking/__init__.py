"""Experiment tracking by MLflow."""

from pipelines.tracking.runs import PIPELINE_RUN_VARIABLE as PIPELINE_RUN_VARIABLE
from pipelines.tracking.runs import Run as Run
from pipelines.tracking.runs import stage_run as stage_run
from pipelines.tracking.store import EXPERIMENT as EXPERIMENT
from pipelines.tracking.store import client as client
from pipelines.tracking.store import configure as configure
from pipelines.tracking.store import experiment_id as experiment_id
from pipelines.tracking.store import lock as lock
from pipelines.tracking.store import require_server as require_server
from pipelines.tracking.store import uri as uri
