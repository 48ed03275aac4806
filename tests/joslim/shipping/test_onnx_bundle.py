"""A bundle of ONNX files: outputs of each configuration, bytes, and the script that runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from slimmable_folder import colour_spec, load, save, with_budget
from small_training import spec

from joslim.budgets import parse_budget
from joslim.costs.profile import Profile
from joslim.errors import BudgetError, ExportError
from joslim.machine.turns import today
from joslim.shipping import configuration_latencies, export_onnx, onnx_bundle, run_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet8")
    save(folder / "model", spec())
    export_onnx(with_budget(load(folder / "model")), folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("name", ["torchvision:densenet121", "small_transformers:vit"])
def test_gathered_weights_are_sliced_and_joined(name: str, tmp_path: Path) -> None:
    save(tmp_path / "model", colour_spec(name), num_widths=2)
    model = load(tmp_path / "model")
    export_onnx(model, tmp_path / "bundle")
    images = torch.rand(2, *model.input_shape)
    for configuration in model.configurations:
        session = onnxruntime.InferenceSession(tmp_path / "bundle" / f"{configuration.id}.onnx")
        (found,) = session.run(None, {"images": images.numpy()})
        expected = model.at(configuration.id)(images)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


def test_weights_stand_in_the_bundle_once(bundle: Path) -> None:
    weights = (bundle.parent / "model" / "weights.safetensors").stat().st_size
    assert (bundle / "weights.bin").stat().st_size < weights
    graphs = [file.stat().st_size for file in bundle.glob("*.onnx")]
    assert len(graphs) == 4
    assert max(graphs) < 0.12 * weights


def run(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, bundle / "run.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=bundle)


def test_the_script_runs_the_best_within_a_budget(bundle: Path) -> None:
    model = with_budget(load(bundle.parent / "model"))
    images = torch.rand(4, *model.input_shape, generator=torch.Generator().manual_seed(0))
    np.save(bundle.parent / "images.npy", images.numpy())
    for budget in ("macs=100%", "macs=60%", "memory=1MiB,params=99%", "w-0"):
        done = run(bundle, bundle.parent / "images.npy", "--budget", budget)
        assert done.returncode == 0, done.stderr
        chosen = model.configuration(budget)
        classes = model.at(budget)(images).argmax(1).tolist()
        assert done.stdout.strip() == f"{chosen.id}: classes {classes}"
    refused = run(bundle, bundle.parent / "images.npy", "--budget", "macs=1")
    assert refused.stderr.startswith("nothing is within macs=1; there is macs from ")
    unknown = run(bundle, bundle.parent / "images.npy", "--budget", "speed=1")
    assert "budget is 'speed=1'; expected such as macs=50%" in unknown.stderr


def test_the_description_has_what_the_folder_has(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    assert content["input_shape"] == [1, 12, 12]
    assert {entry["file"] for entry in content["configurations"]} == {
        file.name for file in bundle.glob("*.onnx")
    }


def test_what_cannot_be_written_leaves_nothing_behind(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_budget(load(bundle.parent / "model"))
    with pytest.raises(ExportError, match="exists already; remove it, or choose another name"):
        export_onnx(model, bundle)
    monkeypatch.setattr(onnx_bundle, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="configuration 'w-0': ONNX Runtime differs from PyTorch"):
        export_onnx(model, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    monkeypatch.setattr(onnx_bundle, "PACKAGES", ("not_installed",))
    with pytest.raises(ExportError, match="ONNX needs not_installed; run: pip install not_install"):
        export_onnx(model, tmp_path / "bundle")


def test_the_script_times_every_configuration(bundle: Path, tmp_path: Path) -> None:
    model = with_budget(load(bundle.parent / "model"))
    done = run(bundle, "--profile", tmp_path / "here.json", "--threads", 2)
    assert done.returncode == 0, done.stderr
    profile = Profile.load(tmp_path / "here.json")
    assert profile.name == "here"
    assert profile.device.endswith(", 2 threads")
    assert profile.groups == model.slices.groups
    assert set(profile.measured) == {c.widths for c in model.configurations}
    assert min(profile.measured.values()) > 0
    assert profile.date == today()
    content = json.loads((tmp_path / "here.json").read_text())
    assert all(one["latency_spread"] > 0 for one in content["configurations"])
    in_doubt = [one["id"] for one in content["configurations"] if one["latency_doubt"]]
    assert len(profile.doubts) == len({model.configuration(i).widths for i in in_doubt})
    assert all(f"{identity} may be faster: " in done.stdout for identity in in_doubt)


def test_latencies_of_other_devices_are_budgets_of_the_script(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    content = json.loads((copy / "bundle.json").read_text())
    for number, one in enumerate(content["configurations"]):
        one["latency_ms_pi5"] = 10.0 * (number + 1)
    (copy / "bundle.json").write_text(json.dumps(content))
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((1, *content["input_shape"]), np.float32))
    first = content["configurations"][0]["id"]
    done = run(copy, images, "--budget", "latency@pi5=15ms")
    assert done.stdout.startswith(f"{first}: classes")
    assert run(copy, images, "--budget", "latency@pi5=5ms").returncode == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_shape", [1, 12]),
        ("input_shape", [1, 10**9, 10**9]),
        ("input_shape", [10**12, "0", 12]),
        ("full", {"macs": float("nan")}),
        ("configurations", []),
        ("configurations", [{"id": "w-0", "file": "../w-0.onnx", "widths": [], "val_top1": 0.5}]),
        ("configurations", 3),
    ],
)
def test_a_damaged_description_is_named(
    key: str, value: object, bundle: Path, tmp_path: Path
) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(SystemExit, match=r"bundle.json (is damaged|cannot be read): "):
        run_bundle.choose("macs=50%", tmp_path)


def test_a_damaged_graph_is_named(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    for file in copy.glob("*.onnx"):
        file.write_bytes(b"no graph")
    with pytest.raises(SystemExit, match=r"onnx cannot be read: "):
        run_bundle.load("macs=100%", copy)


def test_latencies_here_are_those_of_onnx_runtime(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(bundle.parent / "model")
    found = configuration_latencies(model)
    assert ", onnxruntime " in found.device
    assert found.timings.keys() == {c.id for c in model.configurations}
    monkeypatch.setattr("joslim.shipping.latency.PACKAGES", ("not_installed",))
    found = configuration_latencies(model)
    assert ", torch " in found.device
    assert found.timings["w-0"].milliseconds > 0
    assert found.timings["w-0"].spread > 0


@pytest.mark.parametrize(
    "text",
    ["macs=12M", "macs=1e6", "params=50%", "memory=5MB", "memory=4 MiB", "latency=1s",
     "latency=5000us", "latency@pi5=20ms", "latency=5", "memory=10 M", "macs=5ms", "macs=1.2.3",
     "macs@pi5=5", "weight=5", "latency@Pi-5=1ms", "macs=100%"],
)  # fmt: skip
def test_the_script_reads_budgets_as_the_library_does(text: str) -> None:
    full = {"macs": 3_000_001.0, "params": 123_457.0}
    try:
        (limit,) = parse_budget(text)
    except BudgetError:
        with pytest.raises(SystemExit, match="expected such as macs=50%"):
            run_bundle._limit(text, full)
    else:
        expected = limit.resolve(full.get(limit.quantity.column))
        assert run_bundle._limit(text, full) == (limit.quantity.column, expected)
