"""Any other store or login, through MLflow's own client: slow to import, at home everywhere."""

from collections.abc import Iterator

from pipelines import tracking
from pipelines.records.types import PREFIX, LoggedModel, Query, RegisteredModel, newest


class Client:
    """MLflow's own client."""

    def __init__(self) -> None:
        self._client = tracking.client()

    def models(self) -> list[RegisteredModel]:
        found = self._client.search_registered_models(f"name LIKE '{PREFIX}%'")
        return [
            RegisteredModel(
                model.name,
                model.description or "",
                model.tags,
                {alias: int(version) for alias, version in model.aliases.items()},
            )
            for model in found
        ]

    def versions(self, name: str) -> dict[str, int]:
        found = self._client.search_model_versions(f"name = '{name}'")
        return newest((version.source, version.version) for version in found)

    def search(self, query: Query) -> Iterator[LoggedModel]:
        token = None
        while True:
            page = self._client.search_logged_models(
                [tracking.experiment_id()],
                query.filter_string,
                order_by=query.order_by,
                page_token=token,
            )
            for model in page:
                numbers = {metric.key: metric.value for metric in model.metrics or ()}
                yield LoggedModel(model.model_id, model.artifact_location, numbers, model.tags)
            if not (token := page.token):
                return
