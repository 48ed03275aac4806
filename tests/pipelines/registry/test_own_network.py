"""A network of the user's own in the registry: its code is run only where the user says so."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import small_project
import torch
from small_project import Project

from joslim.supernet.artifact import load_slimmable
from pipelines import tracking

NET = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
from joslim.networks import create
def small_net(num_classes, in_channels):
    return create("resnet8", num_classes, in_channels)
"""
URI = "models:/joslim-own_small_net-small_net-toy@budget-tiny"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("own") / "project"
    root.mkdir()
    (root / "own_small_net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        made = small_project.make(root, "own_small_net:small_net")
        made.register()
        yield made
    sys.modules.pop("own_small_net", None)


def test_mlflow_loads_what_the_settings_named_when_it_was_registered(project: Project) -> None:
    images = torch.rand(3, 1, 12, 12)
    saved = load_slimmable(project.root / "models/slimmable", allow=("own_small_net",))
    with project.entered():
        tracking.configure()
        served = mlflow.pyfunc.load_model(URI)
    np.testing.assert_array_equal(served.predict(images.numpy()), saved.at("tiny")(images))


def export(project: Project, output: Path) -> "subprocess.CompletedProcess[str]":
    """As the installed command does it, which does not look into the working directory."""
    command = "import sys; sys.path.remove(''); from pipelines.cli import app; app()"
    arguments = ("export", "--budget", "macs=20%", "--format", "pt2", "--output", str(output))
    path = os.pathsep.join(p for p in sys.path if p and p != str(project.root))
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=project.root,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_export_runs_code_that_the_settings_name_and_no_other(
    project: Project, tmp_path: Path
) -> None:
    marker = project.root / "imported"
    done = export(project, tmp_path / "network.pt2")
    assert done.returncode == 0, done.stderr
    settings = project.root / "params.yaml"
    named = settings.read_text()
    marker.unlink()
    try:
        settings.write_text(named.replace("own_small_net:small_net", "resnet8"))
        refused = export(project, tmp_path / "again.pt2")
    finally:
        settings.write_text(named)
    assert refused.returncode == 1
    assert "'own_small_net:small_net' is no network of joslim" in refused.stderr
    assert not marker.exists()
