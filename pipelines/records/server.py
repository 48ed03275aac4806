"""A plain HTTP server."""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pipelines import tracking
from pipelines.records.types import (
    PREFIX,
    LoggedModel,
    Query,
    RegisteredModel,
    RegistryError,
    newest,
)

TIMEOUT_SECONDS = 20
LOGIN_VARIABLES = frozenset(f"MLFLOW_TRACKING_{name}" for name in ("USERNAME", "PASSWORD", "TOKEN"))


class Server:
    """MLflow's REST API."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")

    def models(self) -> list[RegisteredModel]:
        found = self._pages("registered-models/search", {"filter": f"name LIKE '{PREFIX}%'"})
        return [
            RegisteredModel(
                model["name"],
                model.get("description", ""),
                _pairs(model.get("tags", ())),
                {a["alias"]: int(a["version"]) for a in model.get("aliases", ())},
            )
            for model in found
        ]

    def versions(self, name: str) -> dict[str, int]:
        found = self._pages("model-versions/search", {"filter": f"name = '{name}'"})
        return newest((version["source"], version["version"]) for version in found)

    def search(self, query: Query) -> Iterator[LoggedModel]:
        experiment = self._call("experiments/get-by-name", {"experiment_name": tracking.EXPERIMENT})
        body = {
            "experiment_ids": [experiment["experiment"]["experiment_id"]],
            "filter": query.filter_string,
            "order_by": query.order_by,
        }
        for model in self._pages("logged-models/search", body, post=True):
            info, data = model["info"], model.get("data", {})
            numbers = {metric["key"]: metric["value"] for metric in data.get("metrics", ())}
            tags = _pairs(info.get("tags", ()))
            yield LoggedModel(info["model_id"], info["artifact_uri"], numbers, tags)

    def _pages(
        self, path: str, arguments: Mapping[str, Any], *, post: bool = False
    ) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._call(path, {**arguments, **token}, post=post)
            for key in ("registered_models", "model_versions", "models"):
                yield from page.get(key, ())
            if not page.get("next_page_token"):
                return
            token = {"page_token": page["next_page_token"]}

    def _call(self, path: str, arguments: Mapping[str, Any], *, post: bool = False) -> Any:
        url = f"{self._uri}/api/2.0/mlflow/{path}"
        headers = {"Content-Type": "application/json", **_login()}
        body = json.dumps(arguments).encode() if post else None
        request = Request(url if post else f"{url}?{urlencode(arguments)}", body, headers)
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise RegistryError(f"{url} answers {error.code}: {_message(error)}") from error
        except (URLError, OSError, ValueError) as error:
            raise RegistryError(
                f"{url} cannot be reached: {error}; start that server, or set MLFLOW_TRACKING_URI "
                "to another, or to nothing for the checkout's own"
            ) from error


def _pairs(items: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items}


def _login() -> dict[str, str]:
    user, password, token = (
        os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD", "TOKEN")
    )
    if user and password:
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {encoded}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _message(error: HTTPError) -> str:
    """What MLflow says in its answer, else the reason in the status line."""
    try:
        return json.load(error)["message"]
    except (ValueError, KeyError, TypeError):
        return error.reason
