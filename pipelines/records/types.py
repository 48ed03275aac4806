"""What MLflow keeps about the project's models, whatever way it is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from joslim.errors import JoslimError

PREFIX = "joslim-"
"""How the names of this project's registered models begin."""


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
        tags: ``kind`` (front or budget), ``id``, ``digest``, ``front``, ``widths``, …
    """

    model_id: str
    location: str
    numbers: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RegisteredModel:
    """The versions of one network and dataset.

    Attributes:
        tags: ``current_front`` marks the versions that count; ``full_…`` is the full
            network's cost.
        aliases: Version per alias.
    """

    name: str
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]

    def full(self, column: str) -> float | None:
        """The full network's cost, if known."""
        value = self.tags.get(f"full_{column}")
        return float(value) if value is not None else None


@dataclass(frozen=True)
class Query:
    """Models of one front within limits, in order.

    Attributes:
        front: Value of the models' tag ``front``.
        limits: Largest value per metric.
        order: Metrics with whether they ascend; the first decides, then the next; the newest model
            comes first among equals, one without the metric last.
    """

    front: str
    limits: Mapping[str, float] = field(default_factory=dict)
    order: Sequence[tuple[str, bool]] = (("macs", True), ("val_top1", True))

    @property
    def filter_string(self) -> str:
        """For MLflow's search of logged models."""
        limits = (f"metrics.{name} <= {limit:.6f}" for name, limit in self.limits.items())
        return " AND ".join([f"tags.front = '{self.front}'", *limits])

    @property
    def order_by(self) -> list[dict[str, Any]]:
        """For MLflow's search of logged models."""
        return [{"field_name": f"metrics.{name}", "ascending": up} for name, up in self.order]


class Records(Protocol):
    """A way to read MLflow's records."""

    def models(self) -> list[RegisteredModel]:
        """All registered models of this project."""

    def versions(self, name: str) -> dict[str, int]:
        """The newest version per ``models:/m-…`` source."""

    def search(self, query: Query) -> Iterator[LoggedModel]:
        """Logged models that answer the query, in its order."""


def newest(versions: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    """Versions by source; where several have one source, the newest."""
    return dict(sorted(((s, int(v)) for s, v in versions), key=lambda pair: pair[1]))
