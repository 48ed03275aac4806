"""Puts the front's and the budgets' models into MLflow's registry, each once."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse

from pipelines import tracking
from pipelines.registry.lookup import Entry, current_front, find_model
from pipelines.registry.records import NotRegisteredError, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUBNETWORK = "subnetwork"
"""Folder inside a model's files that `joslim.load` reads."""

_ALIAS = "budget-"


@dataclass(frozen=True)
class Submission:
    """A saved sub-network on its way into the registry.

    Attributes:
        kind: A slice of the supernet on the front, or a budget's fine-tuned model.
        id: The front's id of it, or the budget's name.
        folder: What `joslim.load` reads.
        numbers: Metrics; unknown ones left out.
        tags: Of the model.
        labels: Tags of the version, for people.
        summary: A sentence for people.
    """

    kind: Literal["front", "budget"]
    id: str
    folder: Path
    numbers: Mapping[str, float]
    tags: Mapping[str, str]
    labels: Mapping[str, str]
    summary: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of files, numbers and name: the same for the same submission."""
        files = [self.folder / "weights.safetensors", self.folder / "spec.json"]
        parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        numbers = json.dumps(dict(self.numbers), sort_keys=True)
        return _digest([self.kind, self.id, numbers, *parts])

    @property
    def alias(self) -> str | None:
        return f"{_ALIAS}{self.id}" if self.kind == "budget" else None


@dataclass(frozen=True)
class Collection:
    """Everything that a registered model shall hold after registration.

    Attributes:
        name: The registered model's.
        full: Cost of the full network per column.
        describe: Makes the registered model's description, in Markdown.
    """

    name: str
    submissions: Sequence[Submission]
    full: Mapping[str, float]
    describe: Callable[[Sequence[Entry]], str]

    @cached_property
    def front(self) -> str:
        """Name of this set of submissions, by their digests."""
        return _digest(submission.digest for submission in self.submissions)[:16]

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the registered model, the decisive one last."""
        full = {f"full_{column}": f"{cost:.15g}" for column, cost in self.full.items()}
        return {**full, "current_front": self.front}

    @property
    def aliases(self) -> dict[str, str]:
        """The digest of the submission that each alias shall point to."""
        return {s.alias: s.digest for s in self.submissions if s.alias}


def registered(collection: Collection) -> list[Entry] | None:
    """The collection's versions, in its order; None if something of it is not registered yet."""
    try:
        records = connect()
        model = find_model(records, collection.name)
    except NotRegisteredError:
        return None
    found = current_front(records, model)
    digests = {entry.version: entry.logged.tags.get("digest", "") for entry in found}
    aliases = {a: digests.get(v) for a, v in model.aliases.items() if a.startswith(_ALIAS)}
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
    model_ids: list[str] = []
    submissions = track(collection.submissions, "registering", len(collection.submissions))
    for step, submission in enumerate(submissions, start=1):
        model_id = logged.get(submission.digest)
        if model_id is None:
            model_id = _log(client, run.run_id, step, submission, name)
        versions[submission.digest] = there.get(f"models:/{model_id}") or _create_version(
            client, run.run_id, model_id, submission, name
        )
        model_ids.append(model_id)
    for model_id in model_ids:
        client.set_logged_model_tags(model_id, {"front": collection.front})
    _move_aliases(client, collection, versions)
    for key, value in collection.tags.items():
        client.set_registered_model_tag(name, key, value)
    entries = _in_order(collection, current_front(records, find_model(records, name)))
    client.update_registered_model(name, collection.describe(entries))
    return entries


def download(entry: Entry, part: str) -> Path:
    """A file or folder of a version's files, such as ``data/model.pt2``, on this machine."""
    tracking.configure()
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(f"{entry.uri}/{part}"))


def _in_order(collection: Collection, entries: Sequence[Entry]) -> list[Entry]:
    by_digest = {entry.logged.tags["digest"]: entry for entry in entries}
    return [by_digest[submission.digest] for submission in collection.submissions]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
    """Model id per digest of what was logged before; a model whose files are lost is deleted."""
    import mlflow

    found: dict[str, str] = {}
    for model in mlflow.search_logged_models(
        [tracking.experiment_id()], f"tags.registered_model = '{name}'", output_format="list"
    ):
        if _files_stand(model.artifact_location):
            if "digest" in model.tags:
                found[model.tags["digest"]] = model.model_id
        else:
            for version in client.search_model_versions(f"name = '{name}'"):
                if version.source == model.model_uri:
                    client.delete_model_version(name, version.version)
            client.delete_logged_model(model.model_id)
    return found


def _log(client: "MlflowClient", run_id: str, step: int, submission: Submission, name: str) -> str:
    """Export and log one model with its metrics; its tag ``digest`` marks it as complete."""
    import mlflow
    import numpy as np
    from mlflow.entities import Metric
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from joslim.supernet.storage import load_subnetwork, read_spec

    spec = read_spec(submission.folder)
    image = (spec["in_channels"], spec["image_size"], spec["image_size"])
    float32 = np.dtype("float32")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, *image))]),
        outputs=Schema([TensorSpec(float32, (-1, spec["num_classes"]))]),
    )
    info = mlflow.pytorch.log_model(
        load_subnetwork(submission.folder).model,
        name=submission.alias or submission.id,
        signature=signature,
        # A batch of one would make the exported graph a graph for batches of one.
        input_example=np.zeros((2, *image), float32),
        pip_requirements=[f"torch=={installed_version('torch')}"],
        tags={
            "kind": submission.kind,
            "id": submission.id,
            "registered_model": name,
            "mlflow.note.content": submission.summary,
            **submission.tags,
        },
    )
    client.log_model_artifacts(info.model_id, str(submission.folder), SUBNETWORK)
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now, step, model_id=info.model_id)
        for name, value in submission.numbers.items()
        if math.isfinite(value)
    ]
    client.log_batch(run_id, metrics=metrics)
    client.set_logged_model_tags(info.model_id, {"digest": submission.digest})
    return info.model_id


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
        if alias.startswith(_ALIAS):
            client.delete_registered_model_alias(collection.name, alias)
    for alias, digest in collection.aliases.items():
        client.set_registered_model_alias(collection.name, alias, str(versions[digest]))
