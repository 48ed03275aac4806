"""What the registry answers: the current front, and the best version within a budget."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from joslim.budgets import Budget, infeasible
from joslim.errors import BudgetError
from pipelines import tracking
from pipelines.registry.records import (
    LoggedModel,
    NotRegisteredError,
    Query,
    Records,
    RegisteredModel,
    RegistryError,
)

SLIMMABLE: Literal["slimmable"] = "slimmable"
"""Kind and alias of the version with all weights, and tag of its slices with its model's id."""


@dataclass(frozen=True)
class Entry:
    """A version in the registry together with its model."""

    name: str
    version: int
    logged: LoggedModel
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def numbers(self) -> Mapping[str, float]:
        return self.logged.numbers

    @property
    def kind(self) -> str:
        return self.logged.tags["kind"]

    @property
    def id(self) -> str:
        return self.logged.tags["id"]


def find_model(records: Records, name: str | None = None) -> RegisteredModel:
    """The registered model called ``name``; without a name, the only one.

    Raises:
        NotRegisteredError: If there is none.
        RegistryError: If there are several and no name.
    """
    models = {m.name: m for m in records.models() if "current_front" in m.tags}
    names = ", ".join(sorted(models))
    if not models:
        raise NotRegisteredError(
            f"no model is registered at {tracking.uri()}; run `dvc repro` first"
        )
    if name is None and len(models) > 1:
        raise RegistryError(f"several models are registered; choose one with --model: {names}")
    if name is not None and name not in models:
        raise NotRegisteredError(f"model '{name}' is not registered; expected one of: {names}")
    return models[name or names]


def current_front(records: Records, model: RegisteredModel) -> list[Entry]:
    """Every version of the current front and its budgets' models, by MACs."""
    return list(_entries(records, model, Query(model.tags["current_front"])))


def slimmable_version(records: Records, model: RegisteredModel) -> Entry:
    """The version with all weights, of which those of the current front are slices.

    Raises:
        NotRegisteredError: If there is none: it was deleted, or registered by a version before 0.2.
    """
    version = model.aliases.get(SLIMMABLE)
    for source, number in records.versions(model.name).items():
        if number == version:
            logged = records.logged_model(source.removeprefix("models:/"))
            return Entry(model.name, number, logged, (SLIMMABLE,))
    raise NotRegisteredError(
        f"{model.name} has no version with the alias '{SLIMMABLE}'; run `dvc repro`"
    )


def best_within(records: Records, model: RegisteredModel, budget: Budget) -> Entry:
    """The version with the best ``val_top1`` within all limits of ``budget``.

    Raises:
        BudgetError: If nothing is within it; names the cheapest version.
    """
    columns = [limit.quantity.column for limit in budget]
    query = Query(
        model.tags["current_front"],
        {c: limit.resolve(model.full(c)) for c, limit in zip(columns, budget, strict=True)},
        [("val_top1", False), ("macs", True)],
    )
    found = next(_entries(records, model, query), None)
    if found is None:

        def cheapest(column: str) -> tuple[str, Mapping[str, float]] | None:
            query = Query(model.tags["current_front"], order=[(column, True), ("val_top1", False)])
            entry = next(_entries(records, model, query), None)
            known = entry is not None and column in entry.numbers
            return (entry.uri, entry.numbers) if entry is not None and known else None

        raise BudgetError(infeasible(f"version of {model.name}", budget, cheapest))
    return found


def _entries(records: Records, model: RegisteredModel, query: Query) -> Iterator[Entry]:
    versions = records.versions(model.name)
    for logged in records.search(query):
        version = versions.get(f"models:/{logged.model_id}")
        if version is not None:
            aliases = tuple(sorted(a for a, v in model.aliases.items() if v == version))
            yield Entry(model.name, version, logged, aliases)
