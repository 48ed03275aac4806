"""The embedded sqlite database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from pipelines.records.types import (
    PREFIX,
    LoggedModel,
    Query,
    RegisteredModel,
    RegistryError,
    newest,
)


class Database:
    """MLflow's sqlite database, read only."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"

    def models(self) -> list[RegisteredModel]:
        tags = "SELECT key, value FROM registered_model_tags WHERE name = ?"
        aliases = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
        found = self._rows(
            "SELECT name, coalesce(description, '') FROM registered_models WHERE name LIKE ?",
            f"{PREFIX}%",
        )
        return [
            RegisteredModel(
                name, description, dict(self._rows(tags, name)), dict(self._rows(aliases, name))
            )
            for name, description in found
        ]

    def versions(self, name: str) -> dict[str, int]:
        return newest(
            self._rows(
                "SELECT source, version FROM model_versions"
                " WHERE name = ? AND current_stage != 'Deleted_Internal'",
                name,
            )
        )

    def search(self, query: Query) -> Iterator[LoggedModel]:
        limits = "".join(
            " AND EXISTS (SELECT 1 FROM logged_model_metrics c WHERE c.model_id = m.model_id"
            " AND c.metric_name = ? AND c.metric_value <= ?)"
            for _ in query.limits
        )
        value = (
            "(SELECT max(metric_value) FROM logged_model_metrics o"
            " WHERE o.model_id = m.model_id AND o.metric_name = ?)"
        )
        order = ", ".join(f"{value} {'ASC' if up else 'DESC'} NULLS LAST" for _, up in query.order)
        rows = self._rows(
            "SELECT m.model_id, m.artifact_location FROM logged_models m"
            " JOIN logged_model_tags t ON t.model_id = m.model_id"
            " WHERE t.tag_key = 'front' AND t.tag_value = ? AND m.lifecycle_stage = 'active'"
            f"{limits} ORDER BY {order}, m.creation_timestamp_ms DESC, m.model_id",
            query.front,
            *(part for limit in query.limits.items() for part in limit),
            *(name for name, _ in query.order),
        )
        metrics = "SELECT metric_name, metric_value FROM logged_model_metrics WHERE model_id = ?"
        tags = "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?"
        for model_id, location in rows:
            yield LoggedModel(
                model_id,
                location,
                dict(self._rows(metrics, model_id)),
                dict(self._rows(tags, model_id)),
            )

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            with closing(sqlite3.connect(self._uri, uri=True)) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise RegistryError(f"{self._uri} is not MLflow's database: {error}") from error
