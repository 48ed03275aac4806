"""What the registry answers: the current front, and the best version within a budget."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from joslim.budgets import Budget, infeasible
from joslim.errors import BudgetError
from pipelines import tracking
from pipelines.registry.records import (
    CURRENT,
    REASON,
    LoggedModel,
    NotRegisteredError,
    Query,
    Records,
    RegisteredModel,
    RegistryError,
)

SLIMMABLE: Literal["slimmable"] = "slimmable"
"""Kind and alias of the version with all weights, and tag of its slices with its model's id."""

BEFORE = "previous-"
"""How the alias of what another alias pointed to before begins."""


def alias_of(kind: str, identity: str) -> str | None:
    """The alias that the version of such a model has while its front is the current one."""
    return f"budget-{identity}" if kind == "budget" else SLIMMABLE if kind == SLIMMABLE else None


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

    @property
    def alias(self) -> str | None:
        return alias_of(self.kind, self.id)

    @property
    def is_slice(self) -> bool:
        """Whether its weights are those of the version with all of them."""
        return SLIMMABLE in self.logged.tags

    @property
    def files_stand(self) -> bool:
        """Whether its files are there; remote ones are taken on trust."""
        return files_stand(self.logged.location)


def files_stand(location: str) -> bool:
    """Whether a model's files are there; remote ones are taken on trust."""
    url = urlparse(location)
    return url.scheme not in ("", "file") or Path(url.path, "MLmodel").is_file()


def find_model(records: Records, name: str | None = None) -> RegisteredModel:
    """The registered model called ``name``; without a name, the only one.

    Raises:
        NotRegisteredError: If there is none.
        RegistryError: If there are several and no name.
    """
    there = {model.name: model for model in records.models()}
    models = {n: model for n, model in there.items() if CURRENT in model.tags}
    names = ", ".join(sorted(models))
    if name not in models and (held := there.get(name) if name else _only(there, models)):
        raise NotRegisteredError(
            f"{held.name} holds only candidates, which no alias points to: {held.tags[REASON]}. "
            "With register.require: nothing in params.yaml, `dvc repro` takes them all the same"
        )
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
    return versions_of(records, model, model.tags[CURRENT])


def versions_of(records: Records, model: RegisteredModel, front: str) -> list[Entry]:
    """Every version of a front and its budgets' models, by MACs."""
    return list(_entries(records, model, Query(front)))


def with_slimmable(
    records: Records, model: RegisteredModel, slices: Sequence[Entry]
) -> list[Entry]:
    """Those of a front, after the version that they are slices of, if it is there."""
    source = {f"models:/{e.logged.tags[SLIMMABLE]}" for e in slices if e.is_slice}
    versions = records.versions(model.name)
    whole = [entry_of(records, model, versions[s]) for s in source if s in versions]
    return [*(entry for entry in whole if entry.logged.tags), *slices]


def slimmable_version(records: Records, model: RegisteredModel) -> Entry:
    """The version with all weights, of which those of the current front are slices.

    Raises:
        NotRegisteredError: If there is none: it was deleted, or registered by a version before 0.2.
    """
    if (version := model.aliases.get(SLIMMABLE)) is None:
        raise NotRegisteredError(
            f"{model.name} has no version with the alias '{SLIMMABLE}'; run `dvc repro`"
        )
    source = records.source(model.name, version)
    logged = records.logged_model(source.removeprefix("models:/"))
    return _entry(model, version, logged)


def entry_of(records: Records, model: RegisteredModel, version: int) -> Entry:
    """A version; without numbers and tags if its model is gone, or was none of this project."""
    source = records.source(model.name, version)
    logged = LoggedModel("", "", {}, {})
    if source.startswith("models:/m-"):
        with suppress(NotRegisteredError):
            logged = records.logged_model(source.removeprefix("models:/"))
    return _entry(model, version, logged)


def best_within(records: Records, model: RegisteredModel, budget: Budget) -> Entry:
    """The version with the best ``val_top1`` within all limits of ``budget``.

    Raises:
        BudgetError: If nothing is within it; names the cheapest version.
    """
    columns = [limit.quantity.column for limit in budget]
    query = Query(
        model.tags[CURRENT],
        {c: limit.resolve(model.full(c)) for c, limit in zip(columns, budget, strict=True)},
        [("val_top1", False), ("macs", True)],
    )
    found = next(_entries(records, model, query), None)
    if found is None:

        def cheapest(column: str) -> tuple[str, Mapping[str, float]] | None:
            query = Query(model.tags[CURRENT], order=[(column, True), ("val_top1", False)])
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
            yield _entry(model, version, logged)


def _entry(model: RegisteredModel, version: int, logged: LoggedModel) -> Entry:
    aliases = tuple(sorted(a for a, v in model.aliases.items() if v == version))
    return Entry(model.name, version, logged, aliases)


def _only(
    there: Mapping[str, RegisteredModel], models: Mapping[str, RegisteredModel]
) -> RegisteredModel | None:
    """Of registered models without a current front the first, if there are no others."""
    return None if models else next(iter(there.values()), None)
