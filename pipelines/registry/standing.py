"""Which of the registered versions count: aliases that move, and tags that say so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines import tracking
from pipelines.registry import model_card
from pipelines.registry.lookup import (
    BEFORE,
    SLIMMABLE,
    Entry,
    find_model,
    versions_of,
    with_slimmable,
)
from pipelines.registry.records import (
    BEFORE_FRONT,
    CANDIDATE,
    CURRENT,
    FULL,
    REASON,
    ROLLED_BACK,
    RegisteredModel,
    RegistryError,
    connect,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

STANDING = "standing"
"""Tag of a version: current, replaced, rolled back, or candidate and why."""


@dataclass(frozen=True)
class Move:
    """An alias with its version before and now."""

    alias: str
    before: int | None
    now: int


def take_over(
    client: "MlflowClient",
    model: RegisteredModel,
    front: str,
    members: Sequence[Entry],
    replaced: Sequence[Entry],
    replaced_are: str = "replaced",
) -> list[Move]:
    """Make a front the current one; killed at any moment, it may be called again.

    Of a front that is current already, aliases that are lost come back; one that a person has
    moved stays.

    Args:
        client: Of MLflow.
        model: As it was before.
        front: Becomes current at the very end.
        members: Its versions, with the slimmable one.
        replaced: Those of the front that was current.
        replaced_are: What the tag `STANDING` says of these from now on.

    Returns:
        The aliases that were moved.
    """
    name, moves = model.name, []
    is_current = model.tags.get(CURRENT) == front
    for entry in members:
        stands_at = model.aliases.get(entry.alias) if entry.alias else entry.version
        if entry.alias and stands_at != entry.version and not (is_current and stands_at):
            moves.append(Move(entry.alias, stands_at, entry.version))
            _point(client, model, entry.alias, entry.version)
    kept = {entry.version for entry in members}
    _mark(client, name, (e for e in replaced if e.version not in kept), replaced_are)
    _mark(client, name, members, "current")
    costs = (e.logged.tags for e in members if e.kind == SLIMMABLE)
    for key, value in next(costs, {}).items():
        if key.startswith(FULL):
            client.set_registered_model_tag(name, key, value)
    for tag in (CANDIDATE, REASON):
        client.delete_registered_model_tag(name, tag)
    if is_current or (before := model.tags.get(CURRENT)) is None:
        client.set_registered_model_tag(name, CURRENT, front)
        return moves
    client.set_registered_model_tag(name, f"{BEFORE_FRONT}{front}", before)
    client.set_registered_model_tag(name, CURRENT, front)
    client.delete_registered_model_tag(name, f"{BEFORE_FRONT}{before}")
    return moves


def retire(
    client: "MlflowClient",
    model: RegisteredModel,
    members: Sequence[Entry],
    replaced: Sequence[Entry],
) -> None:
    """Take their aliases from models of budgets that are no more; a person's own aliases stay."""
    still = {entry.alias for entry in members}
    for entry in replaced:
        if entry.alias and entry.alias not in still and entry.alias in entry.aliases:
            client.set_registered_model_alias(model.name, BEFORE + entry.alias, str(entry.version))
            client.delete_registered_model_alias(model.name, entry.alias)


def hold_back(
    client: "MlflowClient",
    model: RegisteredModel,
    front: str,
    members: Sequence[Entry],
    current: Sequence[Entry],
    reason: str,
) -> None:
    """Note why a front is not the current one; no alias moves."""
    shared = {entry.version for entry in current}
    new = (entry for entry in members if entry.version not in shared)
    _mark(client, model.name, new, f"candidate: {reason}")
    client.set_registered_model_tag(model.name, REASON, reason)
    client.set_registered_model_tag(model.name, CANDIDATE, front)
    if CURRENT not in model.tags:
        client.update_registered_model(model.name, f"Only candidates so far: {reason}.")


def roll_back(name: str | None = None) -> tuple[RegisteredModel, list[Move]]:
    """Let the models before the current ones take over again, and remember that a person said so.

    Once more, and it goes forward again.

    Args:
        name: The registered model; without a name, the only one.

    Raises:
        RegistryError: If there were none before, or they cannot be loaded any more.
    """
    client, records = tracking.client(), connect()
    model = find_model(records, name)
    current = model.tags[CURRENT]
    if (before := model.tags.get(f"{BEFORE_FRONT}{current}")) is None:
        raise RegistryError(f"{model.name} has no models before the current ones to go back to")
    members = with_slimmable(records, model, versions_of(records, model, before))
    has_weights = any(entry.kind == SLIMMABLE for entry in members)
    if not members or (not has_weights and any(entry.is_slice for entry in members)):
        raise RegistryError(f"{model.name} cannot go back: the versions before have been deleted")
    if lost := [str(entry.version) for entry in members if not entry.files_stand]:
        raise RegistryError(f"{model.name} cannot go back: version {lost[0]} has lost its files")
    replaced = with_slimmable(records, model, versions_of(records, model, current))
    with tracking.lock():
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        client.set_registered_model_tag(model.name, f"{ROLLED_BACK}{current}", now)
        client.delete_registered_model_tag(model.name, f"{ROLLED_BACK}{before}")
        card = model_card.with_table(model.description, members)
        client.update_registered_model(model.name, card)
        return model, take_over(client, model, before, members, replaced, "rolled back")


def _point(client: "MlflowClient", model: RegisteredModel, alias: str, version: int) -> None:
    if (before := model.aliases.get(alias)) is not None:
        client.set_registered_model_alias(model.name, BEFORE + alias, str(before))
    client.set_registered_model_alias(model.name, alias, str(version))


def _mark(client: "MlflowClient", name: str, entries: Iterable[Entry], standing: str) -> None:
    for entry in entries:
        client.set_model_version_tag(name, str(entry.version), STANDING, standing)
