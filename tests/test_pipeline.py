"""The whole pipeline on generated images: real DVC, MLflow, Prefect and training, tiny settings."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from checkout import SOURCE, Checkout
from commands import runnable

BUDGETS = {"tiny": {"macs": "40%"}, "full": {"macs": "100%", "params": "2M"}}


def tiny_params(data: Path) -> dict[str, Any]:
    params = yaml.safe_load((SOURCE / "params.yaml").read_text())
    params["data"]["path"] = str(data)
    params["network"]["name"] = "resnet8-half"
    params["search"]["num_initial"] = 4
    params["training"] |= {
        "epochs": 4,
        "batch_size": 32,
        "precision": "float32",
        "learning_rate": 0.1,
        "proposals_per_round": 3,
        "steps_per_proposal": 6,
        "refresh_images": 32,
        "refresh_fraction": 0.05,
    }
    params["execution"]["checkpoint_steps"] = 5
    params["front"] = {"num_proposals": 4, "calibration_images": 128}
    params["finetune"] |= {"epochs": 0.5, "private": "norms-and-classifier"}
    params["budgets"] = BUDGETS
    params["tune"] |= {"num_trials": 2, "epochs": 1}
    return params


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, fashion_mnist: Path) -> Checkout:
    """A checkout in which training was killed, and then the flow run to its end."""
    copy = Checkout(tmp_path_factory.mktemp("checkout"), tiny_params(fashion_mnist))
    copy.dvc("repro", "prepare")
    kill_in_the_middle_of_training(copy)
    flow = copy.attempt(sys.executable, "-m", "pipelines.flow")
    copy.flow_output = flow.stdout + flow.stderr
    assert flow.returncode == 0, copy.flow_output
    return copy


def kill_in_the_middle_of_training(copy: Checkout) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "train"],
        cwd=copy.root,
        env=copy.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not list((copy.root / ".joslim").glob("checkpoints/*/checkpoint.pt")):
            assert process.poll() is None, "training ended before it could be killed"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_training_continues_from_the_last_checkpoint(checkout: Checkout):
    assert "continuing from .joslim/checkpoints/" in checkout.flow_output
    curves = (checkout.root / "reports/train/curves.csv").read_text().splitlines()
    steps = [int(line.split(",")[0]) for line in curves[1:]]
    assert steps == [10, 20, 30, 40, 50, 60]


def test_every_width_configuration_of_the_front_is_registered(checkout: Checkout):
    registered = checkout.read("reports/registered.json")
    front = (checkout.root / "reports/front/front.csv").read_text().splitlines()[1:]
    kinds = [version["kind"] for version in registered["versions"]]
    assert kinds.count("front") == len(front) >= 1
    assert [v["aliases"] for v in registered["versions"] if v["kind"] == "budget"] == [
        ["budget-tiny"],
        ["budget-full"],
    ]


def test_lookup_names_a_model_that_is_what_it_states(checkout: Checkout, tmp_path: Path):
    budget = ("--budget", "macs=40%", "--json")
    (found,) = json.loads(checkout.joslim("lookup", *budget))
    script = """
import json, sys, mlflow, torch
from torch.utils.flop_counter import FlopCounterMode
from joslim.data import ImageSet
from pathlib import Path
from pipelines import tracking
tracking.configure()
model = mlflow.pyfunc.load_model(sys.argv[1])
images = ImageSet.load(Path("data/prepared") / f"{sys.argv[2]}.safetensors")
with torch.no_grad():
    logits = torch.cat([torch.from_numpy(model.predict(x.numpy())) for x, _ in images.batches(50)])
import joslim
name = sys.argv[1].rpartition("/")[0]
folder = mlflow.artifacts.download_artifacts(f"{name}@slimmable/artifacts/slimmable")
plain = joslim.load(folder).at(sys.argv[3])
with FlopCounterMode(display=False) as counter:
    plain(images.images[:1].float() / 255)
print(json.dumps([(logits.argmax(1) == images.labels).double().mean().item(),
                  counter.get_total_flops() // 2]))
"""
    split = "test" if "test_top1" in found else "val"
    output = checkout.run(sys.executable, "-c", script, found["uri"], split, found["id"])
    top1, macs = json.loads(output.splitlines()[-1])
    assert top1 == pytest.approx(found[f"{split}_top1"], abs=1e-6)
    assert macs == found["macs"]
    full = checkout.read("reports/registered.json")["model"]
    assert found["uri"].startswith(f"models:/{full}/")
    outside = checkout.attempt(
        sys.executable, "-m", "pipelines.cli", "lookup", "--budget", "macs=1k"
    )
    assert outside.returncode == 1
    assert "the cheapest in macs is models:/" in outside.stderr


PAGES = [SOURCE / "README.md", *sorted((SOURCE / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [*filter(runnable, PAGES)], ids=lambda page: page.name)
def test_the_commands_of_the_pages_hold_after_a_run(checkout: Checkout, page: Path):
    """As they stand there but for `commands.REPLACED`; why others are not run: `NOT_RUN`."""
    pytest.importorskip("onnxruntime")
    before = set(checkout.root.iterdir())
    np.save(checkout.root / "images.npy", np.zeros((8, 1, 28, 28), np.float32))
    for command in runnable(page):
        if output := re.search(r"--output (\S+)", command):
            remove(checkout.root / output[1])  # that of an earlier command
        done = checkout.attempt("bash", "-c", command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert done.stdout, command
    for made in set(checkout.root.iterdir()) - before:
        remove(made)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_a_second_repro_changes_nothing(checkout: Checkout):
    lock = (checkout.root / "dvc.lock").read_text()
    registered = checkout.read("reports/registered.json")
    output = checkout.dvc("repro")
    assert re.findall(r"Running stage '(.*)'", output) == ["inputs", "register"]
    assert (checkout.root / "dvc.lock").read_text() == lock
    assert checkout.read("reports/registered.json") == registered


def test_how_training_is_executed_reruns_nothing(checkout: Checkout, fashion_mnist: Path):
    params = tiny_params(fashion_mnist)
    params["execution"] = {"processes": 2, "checkpoint_steps": 7, "checkpoint_minutes": 1}
    checkout.write_params(params)
    output = checkout.dvc("repro")
    ran = re.findall(r"Running stage '(.*)'", output)
    assert set(ran) - {"report"} == {"inputs", "register"}, "the report shows all settings"


def test_a_changed_budget_reruns_only_its_own_stages(checkout: Checkout, fashion_mnist: Path):
    params = tiny_params(fashion_mnist)
    params["budgets"] = {**BUDGETS, "tiny": {"macs": "60%"}}
    checkout.write_params(params)
    output = checkout.dvc("repro")
    ran = re.findall(r"Running stage '(.*)'", output)
    assert ran == ["inputs", "finetune@tiny", "evaluate@tiny", "assemble", "register", "report"]


PROFILE = """
import joslim, json, torch
from pathlib import Path
from joslim.supernet.storage import load_supernet
network, _ = load_supernet(Path("models/supernet"))
generator = torch.Generator().manual_seed(0)
found = {network.space.full, network.space.smallest}
while len(found) < 9:
    found.add(network.space.random(generator))
macs = joslim.costs.macs(network)
configurations = [{"widths": w, "macs": macs(w), "latency_ms": sum(w) / 10} for w in found]
groups = [group.name for group in network.space.groups]
content = {"device": "a toy", "groups": groups, "configurations": configurations}
Path("profiles").mkdir()
Path("profiles/toy.json").write_text(json.dumps(content))
"""


def test_a_profile_of_a_device_gives_budgets_of_its_latency(
    checkout: Checkout, fashion_mnist: Path
) -> None:
    checkout.run(sys.executable, "-c", PROFILE)
    params = tiny_params(fashion_mnist)
    params["budgets"] = {**BUDGETS, "fast": {"latency@toy": "80%"}}
    checkout.write_params(params)
    ran = re.findall(r"Running stage '(.*)'", checkout.dvc("repro"))
    assert ran[:2] == ["inputs", "front"]
    assert "train" not in ran
    full = checkout.read("reports/front/full.json")["latency_ms_toy"]
    widths = checkout.read("models/supernet/spec.json")["widths"].values()
    assert full == pytest.approx(sum(widths) / 10)
    (found,) = json.loads(checkout.joslim("lookup", "--budget", "latency@toy=80%", "--json"))
    assert found["latency_ms_toy"] <= 0.8 * full
    assert "latency@toy" in (checkout.root / "reports/index.html").read_text()
    params["budgets"]["fast"] = {"latency@pi5": "80%"}
    checkout.write_params(params)
    refused = checkout.attempt(sys.executable, "-m", "dvc", "repro")
    assert refused.returncode != 0
    assert "budgets: latency@pi5 needs profiles/pi5.json" in refused.stdout + refused.stderr
    shutil.rmtree(checkout.root / "profiles")
    checkout.write_params(tiny_params(fashion_mnist))
    checkout.dvc("repro")


def content(checkout: Checkout) -> list[tuple[str, str, list[str]]]:
    versions = checkout.read("reports/registered.json")["versions"]
    return [(version["id"], version["kind"], version["aliases"]) for version in versions]


def test_a_lost_registry_is_filled_again(checkout: Checkout):
    before = content(checkout)
    (checkout.root / "mlflow.db").unlink()
    shutil.rmtree(checkout.root / "mlruns")
    checkout.dvc("repro")
    assert content(checkout) == before
    assert "models:/" in checkout.joslim("lookup", "--budget", "macs=100%")


def test_the_report_needs_nothing_from_outside(checkout: Checkout):
    page = (checkout.root / "reports/index.html").read_text()
    assert "Fashion" in page or "fashion" in page
    for outside in ('src="http', "src='http", '<link rel="stylesheet" href="http', "@import"):
        assert outside not in page


def test_tune_goes_on_where_it_stopped(checkout: Checkout, fashion_mnist: Path):
    checkout.run(sys.executable, "-m", "pipelines.tune")
    (study,) = (checkout.root / ".joslim/tune").iterdir()
    two = study.read_text().splitlines()
    params = tiny_params(fashion_mnist)
    params["tune"]["num_trials"] = 3
    params["execution"]["checkpoint_steps"] = 50
    checkout.write_params(params)
    checkout.run(sys.executable, "-m", "pipelines.tune")
    assert list((checkout.root / ".joslim/tune").iterdir()) == [study]
    three = [json.loads(line) for line in study.read_text().splitlines()]
    assert study.read_text().splitlines()[:2] == two
    assert len({trial["learning_rate"] for trial in three}) == 3
    best = yaml.safe_load((checkout.root / "reports/tune/best.yaml").read_text())["training"]
    winner = max(three, key=lambda trial: trial["hypervolume"])
    assert best["learning_rate"] == winner["learning_rate"]
    params["training"] |= best
    checkout.write_params(params)
    checkout.run(
        sys.executable, "-c", "from pipelines.settings.loading import load_params; load_params()"
    )
    checkout.write_params(tiny_params(fashion_mnist))


def test_a_trial_that_diverges_is_worth_nothing(checkout: Checkout, fashion_mnist: Path):
    params = tiny_params(fashion_mnist)
    params["tune"] |= {"num_trials": 1, "learning_rate": [1e20, 1e25]}
    checkout.write_params(params)
    output = checkout.run(sys.executable, "-m", "pipelines.tune")
    assert "trial 0 is worth 0: the loss of step" in " ".join(output.split())
    checkout.write_params(tiny_params(fashion_mnist))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.min_width", 1.5, "network.min_width is 1.5; input should be less than or equal"),
        ("network.name", "resnet9", "network is 'resnet9'; expected one of resnet8"),
        ("network.wdith", 1, "network.wdith is not a known key"),
        ("training.crop_scale", [0.5, 0.2], "training.crop_scale: [0.5, 0.2]; expected 0 < least"),
        (
            "data.source",
            "cifar10",
            "batches.meta.txt: No such file or directory; unpack",
        ),
        ("data.path", "/nowhere", "data.path: /nowhere holds neither train-images-idx3-ubyte nor"),
        ("training.epochs", "many", "training.epochs is 'many'; input should be a valid integer"),
        (
            "budgets.tiny",
            {"macs": "1%"},
            "budgets.tiny is macs <= 1%, but the smallest sub-network",
        ),
        (
            "budgets.tiny",
            {"macs": 25},
            "or lower network.min_width; did you mean macs <= 25%?",
        ),
        (
            "budgets.tiny",
            {"weight": "1%"},
            "budgets.tiny: budget on 'weight'; expected one of macs",
        ),
        (
            "tune.weight_decay",
            [0.1, 0.01],
            "tune.weight_decay is [0.1, 0.01]; expected lowest < highest",
        ),
    ],
)
def test_bad_params_are_refused_by_name(
    tmp_path: Path, fashion_mnist: Path, key: str, value: Any, message: str
):
    from joslim.errors import ConfigError
    from pipelines.settings.loading import load_params

    params = tiny_params(fashion_mnist)
    section, name = key.split(".")
    params[section] = {**params[section], name: value}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    with pytest.raises(ConfigError) as refused:
        load_params(file)
    assert message in str(refused.value)


def test_a_crash_after_the_last_checkpoint_trains_nothing_again(checkout: Checkout):
    (folder,) = (checkout.root / ".joslim/checkpoints").iterdir()
    outputs = ("models/supernet/weights.safetensors", "models/supernet/search.json")
    before = [(checkout.root / name).read_bytes() for name in outputs]
    curve = (folder / "curve.jsonl").read_text()
    # DVC deletes what it has no note of before it runs the stage again.
    shutil.rmtree(checkout.root / "models/supernet")
    checkout.run(sys.executable, "-m", "pipelines.stages.train")
    assert [(checkout.root / name).read_bytes() for name in outputs] == before
    assert (folder / "finished").exists()
    assert (folder / "curve.jsonl").read_text() == curve
    steps = [json.loads(line)["step"] for line in curve.strip().splitlines()]
    assert sorted(set(steps)) == list(range(1, 61))


def test_two_processes_share_the_training(checkout: Checkout, fashion_mnist: Path):
    params = tiny_params(fashion_mnist)
    params["training"]["epochs"] = 1
    params["execution"]["processes"] = 2
    checkout.write_params(params)
    checkout.dvc("repro", "train")
    curves = (checkout.root / "reports/train/curves.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curves] == ["step", "10", "15"]
    assert len(list((checkout.root / ".joslim/checkpoints").iterdir())) == 1
