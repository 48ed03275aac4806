import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_project import Project
from typer.testing import CliRunner, Result

from joslim.supernet import SlimmableModel
from joslim.supernet.artifact import load_slimmable
from pipelines.cli import app
from pipelines.registry import export

NAME = "joslim-resnet8-toy"


@pytest.fixture(autouse=True)
def _in_project(registered_project: Project) -> Iterator[None]:
    with registered_project.entered():
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_lookup_prints_the_uri_on_a_line_of_its_own() -> None:
    result = run("lookup", "--budget", "macs=20%")
    assert result.exit_code == 0
    assert f"models:/{NAME}/2" in result.stdout.splitlines()
    assert "80.00%" in result.stdout


def test_several_budgets_are_answered_in_their_order() -> None:
    result = run("lookup", "-b", "macs=100%", "-b", "macs=20%", "-b", "macs=90%,latency=2ms")
    uris = [line for line in result.stdout.splitlines() if line.startswith("models:/")]
    assert uris == [f"models:/{NAME}/{version}" for version in (4, 2, 5)]


def test_lookup_in_json() -> None:
    (row,) = json.loads(run("lookup", "--budget", "macs=90%", "--json").stdout)
    assert row["budget"] == "macs=90%"
    assert row["uri"] == f"models:/{NAME}/5"
    assert row["aliases"] == ["budget-tiny"]
    assert row["kind"] == "budget"
    assert row["test_top1"] == 0.855
    assert len(row["widths"]) == 6


def test_latencies_say_what_they_were_measured_on_and_what_is_in_doubt() -> None:
    reason = "the process waited for a processor in 40% of the time"
    lines = run("front").stdout.splitlines()
    assert lines.count("latency: one image on a toy, 1 thread, 2026-01-31") == 1
    in_doubt = [f"latency of version {version} may be less, as {reason}" for version in (3, 5)]
    assert [line for line in lines if "may be less" in line] == in_doubt
    assert "may be less" not in run("lookup", "--budget", "macs=20%").stdout
    sure, doubtful = json.loads(run("lookup", "-b", "macs=20%", "-b", "macs=90%", "--json").stdout)
    assert sure["latency_device"] == "a toy, 1 thread"
    assert sure["latency_date"] == "2026-01-31"
    assert "latency_doubt" not in sure
    assert doubtful["latency_doubt"] == reason


def test_front_lists_every_version() -> None:
    result = run("front")
    assert result.exit_code == 0
    assert NAME in result.stdout
    assert [row["id"] for row in json.loads(run("front", "--json").stdout)] == [
        "w-small",
        "w-medium",
        "tiny",
        "w-full",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lookup", "--budget", "macs=1k"], f"the cheapest in macs is models:/{NAME}/2 with"),
        (["lookup", "--budget", "flops=1k"], "budget on 'flops'; expected one of macs"),
        (["lookup", "--budget", "macs=1M", "--model", "x"], f"expected one of: {NAME}"),
    ],
)
def test_expected_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_from_any_directory_without_importing_torch(
    registered_project: Project, tmp_path: Path
) -> None:
    script = (
        "import sys; from pipelines.cli import app;"
        "app(['lookup', '--budget', 'macs=20%'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    uri = f"sqlite:///{registered_project.root}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"models:/{NAME}/2" in done.stdout.splitlines()


def test_from_a_folder_inside_the_project(registered_project: Project) -> None:
    os.chdir(registered_project.root / "models/front")
    assert run("lookup", "--budget", "macs=20%").exit_code == 0


def slices(project: Project) -> SlimmableModel:
    return load_slimmable(project.root / "models/slimmable")


def test_export_of_all_widths_comes_from_the_registry(
    registered_project: Project, tmp_path: Path
) -> None:
    output = tmp_path / "bundle"
    result = run("export", "--slimmable", "--output", str(output))
    assert result.exit_code == 0, result.output
    np.save(tmp_path / "images.npy", np.zeros((2, 1, 12, 12), np.float32))
    command = [sys.executable, output / "run.py", tmp_path / "images.npy", "--budget", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tiny: classes [")
    program = tmp_path / "network.pt2"
    result = run("export", "--slimmable", "--format", "pt2", "--output", str(program))
    assert result.exit_code == 0, result.output
    assert torch.export.load(program).state_dict
    for given in (("--slimmable", "--budget", "macs=50%"), ()):
        result = run("export", *given, "--output", str(output))
        assert result.exit_code == 1
        assert "export takes --budget, as macs=50%, or --slimmable" in result.stderr


def test_export_to_onnx_equals_the_saved_network(
    registered_project: Project, tmp_path: Path
) -> None:
    output = tmp_path / "tiny.onnx"
    result = run("export", "--budget", "macs=90%", "--format", "onnx", "--output", str(output))
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(output)
    assert [v.shape[0] for v in (*session.get_inputs(), *session.get_outputs())] == ["batch"] * 2
    images = torch.rand(7, 1, 12, 12)
    (logits,) = session.run(None, {"images": images.numpy()})
    expected = slices(registered_project).at("tiny")(images)
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)


def test_export_to_pt2_equals_the_saved_network(
    registered_project: Project, tmp_path: Path
) -> None:
    output = tmp_path / "small.pt2"
    assert run("export", "-b", "macs=20%", "--format", "pt2", "-o", str(output)).exit_code == 0
    images = torch.rand(3, 1, 12, 12)
    expected = slices(registered_project).at("w-small")(images)
    torch.testing.assert_close(
        torch.export.load(output).module()(images), expected, atol=1e-5, rtol=0
    )


def test_export_to_onnx_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(export, "_ONNX_PACKAGES", ("onnx", "not_installed"))
    output = tmp_path / "x.onnx"
    result = run("export", "--budget", "macs=20%", "--format", "onnx", "--output", str(output))
    assert result.exit_code == 1
    assert "needs not_installed; run `pip install -e '.[onnx]'` in the checkout" in result.stderr
    assert not output.exists()


def test_export_into_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "nowhere" / "x.pt2"
    result = run("export", "-b", "macs=20%", "--format", "pt2", "-o", str(output))
    assert result.exit_code == 1
    assert f"there is no folder {tmp_path / 'nowhere'}" in result.stderr


def test_a_wrong_onnx_file_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    output = tmp_path / "x.onnx"
    result = run("export", "--budget", "macs=20%", "--format", "onnx", "--output", str(output))
    assert result.exit_code == 1
    assert "ONNX Runtime differs from PyTorch by" in result.stderr
    assert not output.exists()


def test_a_profile_that_no_later_command_could_use_is_not_made(tmp_path: Path) -> None:
    entries = [{"widths": [width, 8]} for width in (1, 2, 2)]
    (tmp_path / "bundle.json").write_text(json.dumps({"configurations": entries}))
    result = run("profile", str(tmp_path), "--name", "here")
    assert result.exit_code == 1
    assert f"{tmp_path} holds 2 width configurations; a profile needs at least 8" in result.stderr
    assert not Path("profiles").exists()
