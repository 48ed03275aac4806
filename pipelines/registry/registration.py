"""Puts the front's and the budgets' models into MLflow's registry, each once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines import tracking
from pipelines.registry.gate import Decision, decide
from pipelines.registry.logged_models import complete_tags, create_version, log, logged_models
from pipelines.registry.lookup import Entry, versions_of, with_slimmable
from pipelines.registry.records import (
    CANDIDATE,
    CURRENT,
    REASON,
    ROLLED_BACK,
    NotRegisteredError,
    Records,
    RegisteredModel,
    connect,
)
from pipelines.registry.standing import hold_back, retire, take_over
from pipelines.registry.submissions import Collection, Submission

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Registration:
    """A collection in the registry.

    Attributes:
        entries: Its versions, in its order.
        decision: Whether they have taken over, and what they were compared with.
    """

    entries: list[Entry]
    decision: Decision


def registered(collection: Collection) -> Registration | None:
    """The collection, if there is nothing left to do for it; else None."""
    try:
        records = connect()
    except NotRegisteredError:
        return None
    if (model := records.model(collection.name)) is None:
        return None
    found = _members(records, model, collection.front)
    versions = {entry.logged.tags.get("digest", ""): entry.version for entry in found}
    if versions.keys() != {submission.digest for submission in collection.submissions}:
        return None
    if not all(entry.files_stand for entry in found):
        return None
    decision = decide(collection, versions, records, model)
    entries = _in_order(collection, found)
    if not _is_noted(collection, entries, decision, model):
        return None
    return Registration(entries, decision)


def _is_noted(
    collection: Collection, entries: Sequence[Entry], decision: Decision, model: RegisteredModel
) -> bool:
    """Whether the registry says what was decided; a person may have moved an alias since."""
    tags = model.tags
    if decision.takes_over:
        return (
            tags.get(CURRENT) == collection.front
            and collection.costs.items() <= tags.items()
            and collection.aliases.keys() <= model.aliases.keys()
            and model.description == collection.describe(entries)
        )
    held = (tags.get(CANDIDATE), tags.get(REASON))
    is_rolled_back = f"{ROLLED_BACK}{collection.front}" in tags
    return is_rolled_back or held == (collection.front, decision.reason)


def register(
    collection: Collection,
    run: tracking.Run,
    track: Callable[[Sequence[Submission], str, int], Iterable[Submission]],
) -> Registration:
    """Bring the registry in line with the collection; what is there already stays.

    Args:
        collection: What shall be registered; takes over at the very end, if the gate lets it.
        run: Open MLflow run that new models belong to.
        track: Shows progress over items with a title and a total.
    """
    client, name = tracking.client(), collection.name
    _create_registered_model(client, name)
    logged = logged_models(client, name)
    records = connect()
    there = records.versions(name)
    versions: dict[str, int] = {}
    submissions = track(collection.submissions, "registering", len(collection.submissions))
    for step, submission in enumerate(submissions, start=1):
        model = logged.get(submission.digest)
        if model is None:
            slimmable = logged.get(collection.submissions[0].digest)
            model = log(client, run.run_id, step, submission, collection, slimmable)
            logged[submission.digest] = model
        version = there.get(model.uri) or create_version(
            client, run.run_id, model, submission, name
        )
        versions[submission.digest] = version
        complete_tags(client, model, submission, collection, version)
    before = _model(records, name)
    entries = _in_order(collection, _members(records, before, collection.front))
    current = _members(records, before, before.tags.get(CURRENT))
    decision = decide(collection, versions, records, before)
    with tracking.lock():
        if decision.takes_over:
            take_over(client, before, collection.front, entries, current)
            retire(client, before, entries, current)
            client.update_registered_model(name, collection.describe(entries))
        else:
            hold_back(client, before, collection.front, entries, current, decision.reason)
    found = _members(records, _model(records, name), collection.front)
    return Registration(_in_order(collection, found), decision)


def _members(records: Records, model: RegisteredModel, front: str | None) -> list[Entry]:
    if front is None:
        return []
    return with_slimmable(records, model, versions_of(records, model, front))


def _in_order(collection: Collection, entries: Sequence[Entry]) -> list[Entry]:
    by_digest = {entry.logged.tags["digest"]: entry for entry in entries}
    return [by_digest[submission.digest] for submission in collection.submissions]


def _model(records: Records, name: str) -> RegisteredModel:
    model = records.model(name)
    assert model is not None
    return model


def _create_registered_model(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
