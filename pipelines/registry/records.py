"""What MLflow keeps about the project's models, read by MLflow's own client."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joslim.errors import JoslimError
from pipelines import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "joslim-"
"""How the names of this project's registered models begin, unless they were chosen."""

FRONT, CURRENT = "front", "current_front"
"""Tag of a model with the fronts that it belongs to, and of the registered model with the one that
counts."""

BEFORE_FRONT = "before."
"""How the registered model's tag begins that has the front before the current one, and ends with
the current one's name: so that one write moves both."""

CANDIDATE, REASON = "candidate_front", "candidate_reason"
"""Tags of the registered model: the front that was last held back, and why."""

ROLLED_BACK = "rolled_back."
"""How the registered model's tags begin that name a front which a person has rolled back."""

FULL = "full_"
"""How the tags begin that say what the full network costs, per column."""


class RegistryError(JoslimError, LookupError):
    """A registry that cannot be read, or a model that cannot be chosen from it."""


class NotRegisteredError(RegistryError):
    """A registry that does not hold what was asked for."""


@dataclass(frozen=True)
class LoggedModel:
    """A model as the tracking server knows it.

    Attributes:
        model_id: MLflow's id, ``m-…``.
        location: Folder or URI of its files.
        numbers: ``macs``, ``params``, ``memory_bytes``, ``latency_ms``, ``val_top1``, …
        tags: ``kind`` (front, budget or slimmable), ``id``, ``digest``, `FRONT`, ``widths``, …
    """

    model_id: str
    location: str
    numbers: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RegisteredModel:
    """The versions of one network and dataset.

    Attributes:
        tags: `CURRENT` names the front whose versions count; `FULL` and a column is the full
            network's cost.
        aliases: Version per alias.
    """

    name: str
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]

    def full(self, column: str) -> float | None:
        """The full network's cost, if known."""
        value = self.tags.get(f"{FULL}{column}")
        if value is None:
            return None
        try:
            cost = float(value)
        except ValueError:
            cost = math.nan
        if not math.isfinite(cost):
            raise RegistryError(
                f"{self.name}: the tag {FULL}{column} is {value!r}; expected a number"
            )
        return cost


@dataclass(frozen=True)
class Query:
    """Models of one front within limits, in order.

    Attributes:
        front: That the models belong to.
        limits: Largest value per metric.
        order: Metrics with whether they ascend; the first decides, then the next; the newest model
            comes first among equals, one without the metric last.
    """

    front: str
    limits: Mapping[str, float] = field(default_factory=dict)
    order: Sequence[tuple[str, bool]] = (("macs", True), ("val_top1", True))

    @property
    def filter_string(self) -> str:
        """The filter in the syntax of MLflow's search of logged models."""
        limits = (f"metrics.{name} <= {limit:.6f}" for name, limit in self.limits.items())
        return " AND ".join([f"tags.{FRONT} LIKE '%{self.front}%'", *limits])

    @property
    def order_by(self) -> list[dict[str, Any]]:
        """The order in the syntax of MLflow's search of logged models."""
        return [{"field_name": f"metrics.{name}", "ascending": up} for name, up in self.order]


class Records:
    """The records at `tracking.uri`; each method raises RegistryError if they cannot be read."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def models(self) -> list[RegisteredModel]:
        """All registered models of this project that hold a front, or candidates for one."""
        searches = (self._registered(f"tags.{tag} LIKE '%'") for tag in (CURRENT, CANDIDATE))
        found = {model.name: model for models in searches for model in models}
        return [found[name] for name in sorted(found)]

    def model(self, name: str) -> RegisteredModel | None:
        """The registered model called ``name``, whatever it holds."""
        return next(iter(self._registered(f"name = '{name}'")), None)

    def _registered(self, where: str) -> list[RegisteredModel]:
        found = _pages(lambda token: self._client.search_registered_models(where, page_token=token))
        return list(map(_registered_model, found))

    def versions(self, name: str) -> dict[str, int]:
        """The newest version per ``models:/m-…`` source."""
        found = _pages(
            lambda token: self._client.search_model_versions(f"name = '{name}'", page_token=token)
        )
        pairs = ((version.source, int(version.version)) for version in found)
        return dict(sorted(pairs, key=lambda pair: pair[1]))

    def source(self, name: str, version: int) -> str:
        """What a version was made of: ``models:/m-…`` if it is this project's."""
        with _readable():
            return str(self._client.get_model_version(name, str(version)).source)

    def search(self, query: Query) -> Iterator[LoggedModel]:
        """Logged models that answer the query, in its order."""
        with _readable():
            experiment = self._client.get_experiment_by_name(tracking.EXPERIMENT)
        if experiment is None:
            raise NotRegisteredError(f"{tracking.uri()} has no experiment '{tracking.EXPERIMENT}'")
        found = _pages(
            lambda token: self._client.search_logged_models(
                [experiment.experiment_id],
                query.filter_string,
                order_by=query.order_by,
                page_token=token,
            )
        )
        yield from map(_logged_model, found)

    def logged_model(self, model_id: str) -> LoggedModel:
        """The model with MLflow's id ``m-…``; raises NotRegisteredError if it is gone."""
        with _readable():
            return _logged_model(self._client.get_logged_model(model_id))


def connect() -> Records:
    """The records at `tracking.uri`.

    Raises:
        NotRegisteredError: If that is a database in a file that does not exist.
        JoslimError: If no server answers there, or MLflow cannot use what is there.
    """
    uri = tracking.uri()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.is_file():
            raise NotRegisteredError(
                f"no registry at {path}; expected a finished pipeline (`dvc repro`) there, "
                "or MLFLOW_TRACKING_URI set to where one is"
            )
    tracking.require_server()
    return Records(tracking.client())


def _registered_model(model: Any) -> RegisteredModel:
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    return RegisteredModel(model.name, model.description or "", model.tags, aliases)


def _logged_model(model: Any) -> LoggedModel:
    missing = {"kind", "id"} - model.tags.keys()
    if missing:
        raise RegistryError(f"{model.model_id} has no tag {' and '.join(sorted(missing))}")
    numbers = {metric.key: metric.value for metric in model.metrics or ()}
    return LoggedModel(model.model_id, model.artifact_location, numbers, model.tags)


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All that ``search`` finds; it takes the token of a page, at first None."""
    token = None
    while True:
        with _readable():
            page = search(token)
        yield from page
        if not (token := page.token):
            return


@contextmanager
def _readable() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotRegisteredError(f"not in MLflow's records: {error}") from error
        raise RegistryError(f"MLflow's records cannot be read: {error}") from error
