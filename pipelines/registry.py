"""Puts the front's and the budgets' models into MLflow's registry, each once."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from pipelines import tracking
from pipelines.lookup import Entry, current_front
from pipelines.records import RegistryError, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

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
        tags: For people, on the version's page.
        summary: A sentence for people.
    """

    kind: Literal["front", "budget"]
    id: str
    folder: Path
    numbers: Mapping[str, float]
    tags: Mapping[str, str]
    summary: str

    @cached_property
    def digest(self) -> str:
        """What makes two submissions the same: files, numbers and place."""
        files = [self.folder / "weights.safetensors", self.folder / "spec.json"]
        parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        numbers = json.dumps(dict(self.numbers), sort_keys=True)
        return _digest([self.kind, self.id, numbers, *parts])

    @property
    def alias(self) -> str | None:
        return f"{_ALIAS}{self.id}" if self.kind == "budget" else None


@dataclass(frozen=True)
class Collection:
    """All that a registered model shall hold now.

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
        """Names this set of submissions."""
        return _digest(submission.digest for submission in self.submissions)[:16]

    @property
    def tags(self) -> dict[str, str]:
        """The registered model's, the decisive one last."""
        full = {f"full_{column}": repr(cost) for column, cost in self.full.items()}
        return {**full, "current_front": self.front}

    @property
    def aliases(self) -> dict[str, str]:
        """Digest per alias."""
        return {s.alias: s.digest for s in self.submissions if s.alias}


def registered(collection: Collection) -> list[Entry] | None:
    """The collection's versions, in its order; None if something of it is not registered yet."""
    try:
        records = connect()
    except RegistryError:
        return None
    model = next((m for m in records.models() if m.name == collection.name), None)
    if model is None or not collection.tags.items() <= model.tags.items():
        return None
    found = {e.logged.tags.get("digest"): e for e in current_front(records, model)}
    aliases = {
        alias: entry.logged.tags.get("digest")
        for entry in found.values()
        for alias in entry.aliases
        if alias.startswith(_ALIAS)
    }
    entries = [found.get(submission.digest) for submission in collection.submissions]
    standing = [e for e in entries if e is not None and _files_stand(e.logged.location)]
    complete = len(standing) == len(entries) == len(found) and aliases == collection.aliases
    if not complete or model.description != collection.describe(standing):
        return None
    return standing


def register(
    collection: Collection, run: tracking.Run, done: Callable[[Submission], None]
) -> list[Entry]:
    """Bring the registry in line with the collection; what is there already stays.

    Args:
        collection: What shall be registered; becomes the current front at the very end.
        run: Open MLflow run that new models belong to.
        done: Called after each submission.

    Returns:
        The collection's versions, in its order.
    """
    client = tracking.client()
    _create_registered_model(client, collection.name)
    logged = _logged_models(client, collection.name)
    versions: dict[str, int] = {}
    for step, submission in enumerate(collection.submissions, start=1):
        model_id = logged.get(submission.digest) or _log(client, run, step, submission, collection)
        versions[submission.digest] = _version(client, run, model_id, submission, collection.name)
        client.set_logged_model_tags(model_id, {"front": collection.front})
        done(submission)
    _move_aliases(client, collection, versions)
    for key, value in collection.tags.items():
        client.set_registered_model_tag(collection.name, key, value)
    records = connect()
    model = next(m for m in records.models() if m.name == collection.name)
    entries = {e.logged.tags["digest"]: e for e in current_front(records, model)}
    ordered = [entries[submission.digest] for submission in collection.submissions]
    client.update_registered_model(collection.name, collection.describe(ordered))
    return ordered


def download(entry: Entry, part: str) -> Path:
    """A file or folder of a version's files, such as ``data/model.pt2``, on this machine."""
    tracking.configure()
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(f"models:/{entry.logged.model_id}/{part}"))


def _digest(parts: Any) -> str:
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
    found: dict[str, str] = {}
    for model in _search(client, f"tags.registered_model = '{name}'"):
        if _files_stand(model.artifact_location):
            if "digest" in model.tags:
                found[model.tags["digest"]] = model.model_id
        else:
            for version in client.search_model_versions(f"name = '{name}'"):
                if version.source == model.model_uri:
                    client.delete_model_version(name, version.version)
            client.delete_logged_model(model.model_id)
    return found


def _search(client: "MlflowClient", filter_string: str) -> list["LoggedModel"]:
    experiment, found, token = tracking.experiment_id(), [], None
    while True:
        page = client.search_logged_models([experiment], filter_string, page_token=token)
        found += page
        if not (token := page.token):
            return found


def _log(
    client: "MlflowClient",
    run: tracking.Run,
    step: int,
    submission: Submission,
    collection: Collection,
) -> str:
    """Export and log one model with its metrics; the tag ``digest`` says that all of it is there."""
    import mlflow
    import numpy as np
    from mlflow.entities import Metric
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    import joslim
    from joslim.storage import read_spec

    spec = read_spec(submission.folder)
    image = (spec["in_channels"], spec["image_size"], spec["image_size"])
    float32 = np.dtype("float32")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, *image), "images")]),
        outputs=Schema([TensorSpec(float32, (-1, spec["num_classes"]))]),
    )
    info = mlflow.pytorch.log_model(
        joslim.load(submission.folder),
        name=submission.alias or submission.id,
        signature=signature,
        # A batch of one would make the exported graph a graph for batches of one.
        input_example=np.zeros((2, *image), float32),
        pip_requirements=[f"torch=={installed_version('torch')}"],
        tags={
            "kind": submission.kind,
            "id": submission.id,
            "registered_model": collection.name,
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
    client.log_batch(run.run_id, metrics=metrics)
    client.set_logged_model_tags(info.model_id, {"digest": submission.digest})
    return info.model_id


def _version(
    client: "MlflowClient", run: tracking.Run, model_id: str, submission: Submission, name: str
) -> int:
    """The newest version of a logged model; created if there is none."""
    uri = f"models:/{model_id}"
    there = [v for v in client.search_model_versions(f"name = '{name}'") if v.source == uri]
    if there:
        return max(int(version.version) for version in there)
    created = client.create_model_version(
        name,
        uri,
        run.run_id,
        tags={"kind": submission.kind, "id": submission.id, **submission.tags},
        description=submission.summary,
        model_id=model_id,
    )
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
