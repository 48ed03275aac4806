"""Puts the front's and the budgets' models into MLflow's registry, each once."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from pipelines import tracking
from pipelines.registry.lookup import (
    SLIMMABLE,
    Entry,
    current_front,
    find_model,
    slimmable_version,
)
from pipelines.registry.model_files import log_model
from pipelines.registry.records import NotRegisteredError, connect
from pipelines.registry.submissions import BUDGET_ALIAS, Collection, Submission

if TYPE_CHECKING:
    from mlflow import MlflowClient


def registered(collection: Collection) -> list[Entry] | None:
    """The collection's versions, in its order; None if something of it is not registered yet."""
    try:
        records = connect()
        model = find_model(records, collection.name)
        found = [slimmable_version(records, model), *current_front(records, model)]
    except NotRegisteredError:
        return None
    digests = {entry.version: entry.logged.tags.get("digest", "") for entry in found}
    aliases = {a: digests.get(v) for a, v in model.aliases.items() if _is_ours(a)}
    if (
        set(digests.values()) != {submission.digest for submission in collection.submissions}
        or aliases != collection.aliases
        or not collection.tags.items() <= model.tags.items()
        or not all(_files_stand(entry.logged.location) for entry in found)
    ):
        return None
    entries = _in_order(collection, found)
    return entries if model.description == collection.describe(entries) else None


def register(
    collection: Collection,
    run: tracking.Run,
    track: Callable[[Sequence[Submission], str, int], Iterable[Submission]],
) -> list[Entry]:
    """Bring the registry in line with the collection; what is there already stays.

    Args:
        collection: What shall be registered; becomes the current front at the very end.
        run: Open MLflow run that new models belong to.
        track: Shows progress over items with a title and a total.

    Returns:
        The collection's versions, in its order.
    """
    client, name = tracking.client(), collection.name
    _create_registered_model(client, name)
    logged = _logged_models(client, name)
    records = connect()
    there = records.versions(name)
    versions: dict[str, int] = {}
    submissions = track(collection.submissions, "registering", len(collection.submissions))
    for step, submission in enumerate(submissions, start=1):
        model_id = logged.get(submission.digest)
        if model_id is None:
            slimmable = logged.get(collection.submissions[0].digest)
            model_id = _log(client, run.run_id, step, submission, collection, slimmable)
            logged[submission.digest] = model_id
        versions[submission.digest] = there.get(f"models:/{model_id}") or _create_version(
            client, run.run_id, model_id, submission, name
        )
    for submission in collection.submissions:
        if submission.kind != SLIMMABLE:
            client.set_logged_model_tags(logged[submission.digest], {"front": collection.front})
    _move_aliases(client, collection, versions)
    for key, value in collection.tags.items():
        client.set_registered_model_tag(name, key, value)
    model = find_model(records, name)
    found = [slimmable_version(records, model), *current_front(records, model)]
    entries = _in_order(collection, found)
    client.update_registered_model(name, collection.describe(entries))
    return entries


def _in_order(collection: Collection, entries: Sequence[Entry]) -> list[Entry]:
    by_digest = {entry.logged.tags["digest"]: entry for entry in entries}
    return [by_digest[submission.digest] for submission in collection.submissions]


def _is_ours(alias: str) -> bool:
    return alias == SLIMMABLE or alias.startswith(BUDGET_ALIAS)


def _files_stand(location: str) -> bool:
    """Whether a model's files are there; remote ones are taken on trust."""
    url = urlparse(location)
    return url.scheme not in ("", "file") or Path(url.path, "MLmodel").is_file()


def _create_registered_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged_models(client: "MlflowClient", name: str) -> dict[str, str]:
    """Model id per digest of what was logged before.

    A model whose files are lost, or those of the network that it is a slice of, is deleted.
    """
    import mlflow

    models = mlflow.search_logged_models(
        [tracking.experiment_id()], f"tags.registered_model = '{name}'", output_format="list"
    )
    standing = {model.model_id for model in models if _files_stand(model.artifact_location)}
    found: dict[str, str] = {}
    for model in models:
        if {model.model_id, model.tags.get(SLIMMABLE, model.model_id)} <= standing:
            if "digest" in model.tags:
                found[model.tags["digest"]] = model.model_id
        else:
            for version in client.search_model_versions(f"name = '{name}'"):
                if version.source == model.model_uri:
                    client.delete_model_version(name, version.version)
            client.delete_logged_model(model.model_id)
    return found


def _log(
    client: "MlflowClient",
    run_id: str,
    step: int,
    submission: Submission,
    collection: Collection,
    slimmable: str | None,
) -> str:
    """Log one model with its metrics; its tag ``digest`` marks it as complete."""
    from mlflow.entities import Metric

    tags = {
        "kind": submission.kind,
        "id": submission.id,
        "registered_model": collection.name,
        "mlflow.note.content": submission.summary,
        **submission.tags,
    }
    if submission.is_slice:
        assert slimmable is not None
        tags[SLIMMABLE] = slimmable
    model_id = log_model(submission, collection.spec, slimmable, tags)
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now, step, model_id=model_id)
        for name, value in submission.numbers.items()
        if math.isfinite(value)
    ]
    client.log_batch(run_id, metrics=metrics)
    client.set_logged_model_tags(model_id, {"digest": submission.digest})
    return model_id


def _create_version(
    client: "MlflowClient", run_id: str, model_id: str, submission: Submission, name: str
) -> int:
    created = client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id,
        tags={"id": submission.id, **submission.labels},
        description=submission.summary,
        model_id=model_id,
    )
    # MLflow's server does so by itself, its sqlite store does not; the model's page reads it.
    link = json.dumps([{"name": name, "version": created.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
    return int(created.version)


def _move_aliases(
    client: "MlflowClient", collection: Collection, versions: Mapping[str, int]
) -> None:
    standing = client.get_registered_model(collection.name).aliases
    for alias in standing.keys() - collection.aliases.keys():
        if _is_ours(alias):
            client.delete_registered_model_alias(collection.name, alias)
    for alias, digest in collection.aliases.items():
        client.set_registered_model_alias(collection.name, alias, str(versions[digest]))
