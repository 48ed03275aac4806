"""A slimmable version where nothing of this project is installed, and behind MLflow's server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from http_server import running
from small_project import Project

from joslim.supernet.artifact import load_slimmable

URI = "models:/joslim-resnet8-toy@slimmable"

ELSEWHERE = """
import sys
sys.path = [path for path in sys.path if path not in ("", sys.argv[1])]
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[2])
answer = model.predict(np.zeros((1, 1, 12, 12), np.float32), params={"budget": "tiny"})
assert answer["configuration"] == "tiny"
import joslim
unneeded = {"botorch", "dvc", "gpytorch", "moocore", "hyperopt", "prefect", "typer", "pipelines"}
print(joslim.__file__, sorted(unneeded & sys.modules.keys()))
"""


def test_it_brings_its_code_and_needs_no_pipeline(registered_project: Project) -> None:
    root = str(Path(__file__).parents[3])
    uri = f"sqlite:///{registered_project.root}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, root, URI],
        cwd=registered_project.root.parent,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=True,
    )
    file, _, unneeded = done.stdout.strip().partition(" ")
    assert file.endswith("/code/joslim/__init__.py")
    assert unneeded == "[]"


@pytest.fixture(scope="module")
def invocations(registered_project: Project) -> Iterator[str]:
    """Where MLflow serves the slimmable version."""
    uri = f"sqlite:///{registered_project.root}/mlflow.db"
    arguments = ("models", "serve", "--model-uri", URI, "--env-manager", "local")
    with running(*arguments, MLFLOW_TRACKING_URI=uri) as address:
        yield f"{address}/invocations"


def ask(url: str, images: torch.Tensor, params: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"inputs": images.tolist(), "params": params}).encode()
    request = Request(url, body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def test_a_request_says_its_budget(registered_project: Project, invocations: str) -> None:
    images = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    saved = load_slimmable(registered_project.root / "models/slimmable")
    for budget in ("macs=20%", "macs=90%", "tiny", "params=100%"):
        answer = ask(invocations, images, {"budget": budget})
        assert answer["configuration"] == saved.configuration(budget).id
        expected = saved.at(budget)(images).numpy()
        np.testing.assert_allclose(answer["logits"], expected, atol=1e-5)
    assert ask(invocations, images, {"deadline_ms": 60_000})["configuration"] == "w-full"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"budget": "macs=1k"}, "the cheapest in macs is 'w-small'"),
        ({"budgte": "macs=20%"}, "params has neither of budget and deadline_ms"),
        ({"budget": "large"}, "no configuration is 'large'"),
        ({"deadline_ms": 1e-6}, "the fastest configuration, 'w-small', takes"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    invocations: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        ask(invocations, torch.zeros(1, 1, 12, 12), params)
    assert refused.value.code == 400
    assert message in refused.value.read().decode()
