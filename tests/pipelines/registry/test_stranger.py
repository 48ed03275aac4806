"""A server that is not trusted: what it says is text, and what it asks for is not told on."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import mlflow
import pytest
from http_server import running
from mlflow import MlflowClient
from mlflow.entities import Metric
from typer.testing import CliRunner, Result

from joslim.errors import JoslimError
from pipelines import tracking
from pipelines.cli import app
from pipelines.registry.model_card import describe
from pipelines.terminal.console import console

NAME = "joslim-[bold]x\x1b[2J"
SHOWN = r"joslim-[bold]x\x1b[2J"
ID = "[link=http://x]w[/]\x1b]8;;http://x\x07\x1b[2J\nmodels:/joslim-other/7"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of MLflow whose one model has a name and tags that a terminal would obey."""
    root = tmp_path_factory.mktemp("stranger")
    store = ("--backend-store-uri", f"sqlite:///{root}/server.db", "--workers", "1")
    artifacts = ("--artifacts-destination", str(root / "artifacts"))
    with running("server", *store, *artifacts) as address:
        client = MlflowClient(address)
        experiment = client.create_experiment(tracking.EXPERIMENT)
        run = client.create_run(experiment).info.run_id
        tags = {"kind": "budget", "id": ID, "front": "f", "widths": "4-x\x1b[2J-8"}
        model = client.create_logged_model(experiment, source_run_id=run, tags=tags)
        numbers = {"macs": 100.0, "params": 10.0, "val_top1": 0.5}
        metrics = [Metric(k, v, 0, 0, model_id=model.model_id) for k, v in numbers.items()]
        client.log_batch(run, metrics=metrics)
        client.finalize_logged_model(model.model_id, "READY")
        client.create_registered_model(NAME)
        client.create_model_version(NAME, f"models:/{model.model_id}", run, model_id=model.model_id)
        client.set_registered_model_tag(NAME, "current_front", "f")
        client.set_registered_model_tag(NAME, "full_macs", "\x1b[2Jmany")
        yield address


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_what_a_server_says_reaches_the_terminal_as_text(
    stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stranger.replace("//", "//joe:secret@"))
    monkeypatch.setattr(console, "_width", 300)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    found = run("front")
    assert found.exit_code == 0, found.output
    assert SHOWN in found.stdout
    assert r"[link=http://x]w[/]\x1b]8;;http://x\x07\x1b[2J\nmodels:/joslim-other/7" in found.stdout
    best = run("lookup", "--budget", "params=1k")
    uris = [line for line in best.stdout.splitlines() if line.startswith("models:/")]
    assert uris == [f"models:/{SHOWN}/1"]
    (row,) = json.loads(run("lookup", "--budget", "params=1k", "--json").stdout)
    assert (row["id"], row["widths"]) == (ID, [4, 8])
    refused = run("lookup", "--budget", "macs=50%")
    assert refused.exit_code == 1
    expected = rf"error: {SHOWN}: the tag full_macs is '\x1b[2Jmany'; expected a number"
    assert refused.stderr.strip() == expected
    assert os.environ["MLFLOW_TRACKING_URI"] == stranger
    for result in (found, best, refused):
        assert "\x1b" not in result.output
        assert "secret" not in result.output


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server that refuses everything, and the logins with which it was asked."""
    seen: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://joe:s%40cret@127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


STAGE = """
import sys
from pipelines import tracking
from pipelines.terminal.command import run_command
def main():
    if sys.argv[1] == "lookup":
        from pipelines.registry.records import connect
        connect().models()
    with tracking.stage_run("train"):
        pass
run_command(main)
"""


@pytest.mark.parametrize("what", ["lookup", "stage"])
def test_a_login_reaches_the_server_and_nothing_else(
    what: str, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, seen = asked
    (tmp_path / "dvc.yaml").touch()
    done = subprocess.run(
        [sys.executable, "-c", STAGE, what],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": address},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "403" in done.stderr
    assert not any(part in done.stdout + done.stderr for part in ("cret", "joe"))
    assert seen[-1] == "Basic " + base64.b64encode(b"joe:s@cret").decode()


def test_the_tag_of_an_error_holds_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    error = JoslimError("no answer of postgresql://joe:secret@host/db")
    with pytest.raises(JoslimError), tracking.stage_run("train", params={"a": 1}) as stage:
        raise error
    tags = mlflow.get_run(stage.run_id).data.tags
    assert tags["error"] == "JoslimError: no answer of postgresql://host/db"
    assert not any("secret" in value for value in tags.values())


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://joe:se/cret@127.0.0.1:1", "MLFLOW_TRACKING_URI has a host or a port that is none"),
        ("http://joe:secret@[", "MLFLOW_TRACKING_URI has a host or a port that is none"),
        ("http://joe:secret@127.0.0.1:1", "names a server that does not answer"),
        ("htp://joe:secret@host", "MLflow cannot use the store that MLFLOW_TRACKING_URI names"),
        ("postgresql+nothing://joe:secret@host/x", "MLflow cannot use the store that"),
    ],
)
def test_errors_hold_no_login(address: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    with pytest.raises(JoslimError, match=told) as refused:
        tracking.require_server()
    assert "cret" not in str(refused.value)
    assert "joe" not in str(refused.value)


def test_a_model_card_has_names_as_text() -> None:
    spec = {"network": "mynet:small_net", "in_channels": 1, "image_size": 8}
    entry = SimpleNamespace(
        name="joslim-x", alias="budget-a", aliases=("budget-a",), kind="budget", version=1, id="a",
        numbers={"macs": 1.0},
    )  # fmt: skip
    text = describe(spec, "toy", ["[a](http://x)", "<b>", "c|d", "e\n# f"], "a toy", [entry])  # type: ignore[list-item]
    assert r"\[a\](http://x), \<b\>, c\|d, e\\n\# f" in text
