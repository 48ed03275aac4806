"""The slimmable version behind MLflow's server: what it answers, and how fast under load.

    python -m benchmarks.serving [--seconds 15]

In a checkout after a run, all test images are asked over HTTP at every budget; top-1 is compared
with the registry's. Then a slimmable ResNet-101 of 64 × 64 pixels with random weights is served,
and 1 to 4 clients ask for one image after the other: at full width, and with a deadline of 1.5
times what one client waits for the full network. A client takes from its deadline what its last
requests spent on the way, beside the network. Printed are times as the clients see them, and the
mean MACs that served them, relative to the full network's.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch

from benchmarks import machine
from joslim import costs
from joslim.supernet import Configuration, NetworkSpec, save_slimmable
from pipelines import tracking
from pipelines.artifacts.prepared_data import load_split
from pipelines.registry.lookup import SLIMMABLE, current_front, find_model
from pipelines.registry.records import connect
from pipelines.registry.registration import register
from pipelines.registry.submissions import Collection, Submission, digest_of_files
from pipelines.settings import paths

NAME = "joslim-serving"
SPEC = NetworkSpec("torchvision:resnet101", 10, 3, 64, (0.5,) * 3, (0.2,) * 3, min_width=0.25)
WIDTH_MULTS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
CLIENTS = (1, 2, 4)
BATCH = 500
SLACK = 1.5
REMEMBERED, QUANTILE = 20, 0.95
SHORTEST = 20.0
"""Milliseconds of the shortest deadline that is asked for; the narrowest network takes less."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15)
    seconds = parser.parse_args().seconds
    if paths.REGISTERED.exists():
        _budgets()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _deadlines(seconds)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _budgets() -> None:
    records = connect()
    model = find_model(records, json.loads(paths.REGISTERED.read_text())["model"])
    test = load_split("test")
    print("| budget | served by | top-1 over HTTP | in the registry |\n|---|---|---:|---:|")
    with served(model.name) as url:
        for entry in current_front(records, model):
            if entry.kind != "budget":
                continue
            right, names = 0, set()
            for images, labels in test.batches(BATCH, torch.device("cpu")):
                answer = ask(url, images.numpy(), {"budget": entry.id})
                right += int((np.argmax(answer["logits"], 1) == labels.numpy()).sum())
                names.add(answer["configuration"])
            top1, expected = right / len(test), entry.numbers["test_top1"]
            print(f"| {entry.id} | {', '.join(names)} | {top1:.4%} | {expected:.4%} |", flush=True)


def _deadlines(seconds: float) -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    Path("dvc.yaml").touch()
    macs = _register()
    image = np.zeros((1, SPEC.in_channels, SPEC.image_size, SPEC.image_size), np.float32)
    print("\n| clients | asked for | p50 | p95 | in time | MACs |\n|---:|---|---:|---:|---:|---:|")
    with served(NAME) as url:
        ask(url, image, {"deadline_ms": 60_000.0})
        alone = [time for time, _ in _load(url, image, None, 1, seconds)]
        deadline = SLACK * statistics.median(alone)
        for clients in CLIENTS:
            for limit in (None, deadline):
                answers = _load(url, image, limit, clients, seconds)
                times = [time for time, _ in answers]
                in_time = statistics.mean(time <= deadline for time in times)
                mean = statistics.mean(macs[name] for _, name in answers)
                p50, p95 = np.quantile(times, [0.5, 0.95])
                shown = "full width" if limit is None else f"{limit:.0f} ms"
                cells = [f"{clients}", shown, f"{p50:.0f} ms", f"{p95:.0f} ms", f"{in_time:.0%}"]
                print("|", " | ".join([*cells, f"{mean:.0%}"]), "|", flush=True)


def _register() -> dict[str, float]:
    """Register the network; the MACs of its configurations relative to the full network's."""
    torch.manual_seed(0)
    network = SPEC.build().eval()
    macs = costs.macs(network)
    configurations = []
    for mult in WIDTH_MULTS:
        widths = network.space.uniform(mult)
        numbers = {"macs": float(macs(widths)), "val_top1": mult}
        configurations.append(
            (Configuration(f"w-{mult}", widths, numbers), network.extract(widths))
        )
    full = {"macs": float(macs.full)}
    save_slimmable(Path("slimmable"), network, SPEC, configurations, full)
    folder = Path("slimmable")
    digest = digest_of_files(folder)
    whole = Submission(SLIMMABLE, SLIMMABLE, folder, digest, False, {}, {}, {}, "all weights")
    with tracking.stage_run("register") as run:
        collection = Collection(NAME, [whole], SPEC.to_json(), full, lambda _: "")
        register(collection, run, lambda items, *_: items)
    return {one.id: one.numbers["macs"] / macs.full for one, _ in configurations}


@contextmanager
def served(name: str) -> Iterator[str]:
    """Where MLflow serves the slimmable version of a registered model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"models:/{name}@{SLIMMABLE}", "--port", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        command,
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking.uri(), "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def ask(url: str, images: np.ndarray, params: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"inputs": images.tolist(), "params": params}).encode()
    return _send(url, body)


def _send(url: str, body: bytes) -> dict[str, Any]:
    request = Request(url, body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=600) as answer:
        return json.load(answer)["predictions"]


def _load(
    url: str, images: np.ndarray, deadline: float | None, clients: int, seconds: float
) -> list[tuple[float, str]]:
    """Milliseconds and configuration of every answer to so many clients in ``seconds``.

    Without a deadline they ask for the full width.
    """
    inputs = json.dumps(images.tolist())
    end, answers = time.perf_counter() + seconds, []

    def client() -> None:
        on_the_way = deque([0.0], maxlen=REMEMBERED)
        while (start := time.perf_counter()) < end:
            params: dict[str, Any] = {"budget": "macs=100%"}
            if deadline is not None:
                rest = deadline - np.quantile(on_the_way, QUANTILE)
                params = {"deadline_ms": max(float(rest), SHORTEST)}
            body = f'{{"inputs": {inputs}, "params": {json.dumps(params)}}}'
            answer = _send(url, body.encode())
            taken = 1000 * (time.perf_counter() - start)
            on_the_way.append(taken - answer["milliseconds"])
            answers.append((taken, answer["configuration"]))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    main()
