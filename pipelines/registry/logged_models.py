"""Models and their versions in MLflow: each is logged once, and whole, whatever was killed."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines import tracking
from pipelines.registry.gate import NUM_VAL, VAL_DIGEST
from pipelines.registry.lookup import SLIMMABLE, files_stand
from pipelines.registry.model_files import log_model
from pipelines.registry.records import FRONT
from pipelines.registry.submissions import Collection, Submission

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST = "digest"
"""Tag of a model that is complete: its submission's."""

LINK = "mlflow.modelVersions"
"""Tag of a model with its versions, which its page in MLflow reads."""


@dataclass(frozen=True)
class Logged:
    """A model that is in MLflow."""

    model_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.model_id}"


def logged_models(client: "MlflowClient", name: str) -> dict[str, Logged]:
    """What was logged before for the registered model ``name``, by digest.

    A model whose files are lost, or those of the network that it is a slice of, is deleted; so is
    what a run left unfinished that has ended.
    """
    import mlflow

    models = mlflow.search_logged_models(
        [tracking.experiment_id()], f"tags.registered_model = '{name}'", output_format="list"
    )
    standing = {model.model_id for model in models if files_stand(model.artifact_location)}
    found: dict[str, Logged] = {}
    for model in models:
        if DIGEST not in model.tags:
            if not _is_at_work(client, model.source_run_id):
                client.delete_logged_model(model.model_id)
        elif {model.model_id, model.tags.get(SLIMMABLE, model.model_id)} <= standing:
            found[model.tags[DIGEST]] = Logged(model.model_id, model.tags)
        else:
            for version in client.search_model_versions(f"name = '{name}'"):
                if version.source == model.model_uri:
                    client.delete_model_version(name, version.version)
            client.delete_logged_model(model.model_id)
    return found


def log(
    client: "MlflowClient",
    run_id: str,
    step: int,
    submission: Submission,
    collection: Collection,
    slimmable: Logged | None,
) -> Logged:
    """Log one model with its metrics; its tag `DIGEST`, set last, marks it as complete."""
    from mlflow.entities import Metric

    tags = {
        "kind": submission.kind,
        "id": submission.id,
        "registered_model": collection.name,
        "mlflow.note.content": submission.summary,
        VAL_DIGEST: collection.validation.digest,
        NUM_VAL: str(collection.validation.num_images),
        **submission.tags,
    }
    if submission.is_slice:
        assert slimmable is not None
        tags[SLIMMABLE] = slimmable.model_id
    model_id = log_model(submission, collection.spec, tags.get(SLIMMABLE), tags)
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now, step, model_id=model_id)
        for name, value in submission.numbers.items()
        if math.isfinite(value)
    ]
    client.log_batch(run_id, metrics=metrics)
    client.set_logged_model_tags(model_id, {DIGEST: submission.digest})
    return Logged(model_id, tags)


def create_version(
    client: "MlflowClient", run_id: str, model: Logged, submission: Submission, name: str
) -> int:
    """Make a version of a model that has none."""
    created = client.create_model_version(
        name,
        model.uri,
        run_id,
        tags={"id": submission.id, **submission.labels},
        description=submission.summary,
        model_id=model.model_id,
    )
    return int(created.version)


def complete_tags(
    client: "MlflowClient",
    model: Logged,
    submission: Submission,
    collection: Collection,
    version: int,
) -> None:
    """Set those tags of a model that it lacks: its front, what the full network costs, its link."""
    tags: dict[str, str] = {}
    if submission.kind == SLIMMABLE:
        tags |= collection.costs
    else:
        fronts = model.tags.get(FRONT, "").split()
        tags[FRONT] = " ".join(dict.fromkeys([*fronts, collection.front]))
    # MLflow's server links them by itself, its sqlite store does not.
    links = json.loads(model.tags.get(LINK, "[]"))
    if not any(one["name"] == collection.name and int(one["version"]) == version for one in links):
        tags[LINK] = json.dumps([*links, {"name": collection.name, "version": version}])
    if new := dict(tags.items() - model.tags.items()):
        client.set_logged_model_tags(model.model_id, new)


def _is_at_work(client: "MlflowClient", run_id: str | None) -> bool:
    """Whether the run that logs a model is still there and open."""
    from mlflow.exceptions import MlflowException

    try:
        return run_id is not None and client.get_run(run_id).info.status == "RUNNING"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
