"""One stored network for all budgets: its bytes, and what a switch of widths costs at run time.

Each network, with random weights, is saved with ten width configurations and loaded again. Printed
are the folder's bytes against those of its weights alone, the time to build a configuration and to
ask for it again, what ten configurations add to the memory of one, and the largest difference of an
output from the extracted network's. Lines of the checkout's last run follow: its folder, and its
registry.

The second table is of the files for other runtimes: bytes of an ONNX bundle and of a `torch.export`
program, and what they differ from the extracted networks. ONNX graphs are timed against dense
exports, in milliseconds, with sessions of one thread that take turns.

The third table is of the last run's budgets: milliseconds in both runtimes, on one thread and on
two; and where ONNX Runtime's time on one goes, by its own profiler, which slows it down. After it
the error of predicting a configuration's latency from the others'.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import torch
from torch import nn

import joslim
from benchmarks import machine
from joslim import costs
from joslim.costs.profile import Profile, fitted
from joslim.shipping import export_onnx, export_pt2
from joslim.shipping.run_bundle import profile
from joslim.supernet import (
    Configuration,
    NetworkSpec,
    SlimmableModel,
    load_supernet,
    save_slimmable,
)
from pipelines.registry.lookup import current_front, find_model, slimmable_version
from pipelines.registry.records import connect
from pipelines.settings import paths
from pipelines.settings.loading import read_params

NETWORKS = {
    "resnet20": 32, "torchvision:mobilenet_v2": 96, "torchvision:densenet121": 64,
    "torchvision:convnext_tiny": 64, "torchvision:vit_b_32": 224,
}  # fmt: skip
NUM_CONFIGURATIONS = 10
NUM_EXPORTED = 3
REPEATS = 1000
ONNX_REPEATS = 100


def main() -> None:
    torch.set_num_threads(1)
    print("| network | bytes | of its weights' | build | again | memory | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| `{name}` |", " | ".join(_row(Path(folder), name)), "|", flush=True)
    if paths.SLIMMABLE.exists():
        total, share = _bytes(paths.SLIMMABLE)
        print(f"| `{paths.SLIMMABLE}` | {total:,} | {share:.3f} × | | | | |")
        for what, total, share in _registry():
            print(f"| {what} | {total:,} | {share:.3f} × | | | | |")
    print("\n| network | ONNX: of the weights' | difference | time | pt2 | difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| `{name}` |", " | ".join(_files_row(Path(folder), name)), "|", flush=True)
    if paths.SLIMMABLE.exists():
        print("\n| budget | MACs | ONNX Runtime, 1 thread | 2 | PyTorch, 1 thread | 2 "
              "| convolutions | other kernels | between |\n|---" + "|---:" * 8 + "|")  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            for row in _budget_rows(Path(folder, "bundle")):
                print("|", " | ".join(row), "|", flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _registry() -> Iterator[tuple[str, int, float]]:
    """Bytes of the registered versions, and how many times those of the weights."""
    records = connect()
    model = find_model(records, json.loads(paths.REGISTERED.read_text())["model"])
    entries = [slimmable_version(records, model), *current_front(records, model)]
    weights = (paths.SLIMMABLE / "weights.safetensors").stat().st_size
    sizes = {
        file: file.stat().st_size
        for entry in entries
        for file in Path(entry.logged.location.removeprefix("file://")).rglob("*")
        if file.is_file()
    }
    code = sum(size for file, size in sizes.items() if "code" in file.parts)
    total = sum(sizes.values())
    yield f"registry, {len(entries)} versions", total - code, (total - code) / weights
    yield "… with the library's source", total, total / weights


def _save(
    folder: Path, name: str, count: int
) -> tuple[SlimmableModel, list[tuple[Configuration, nn.Module]]]:
    """A network with random weights and widths, saved and loaded again; what was saved."""
    torch.manual_seed(0)
    size = NETWORKS[name]
    normalisation = (0.5,) * 3
    spec = NetworkSpec(name, 10, 3, size, normalisation, normalisation)
    network = spec.build().eval()
    for parameter in network.parameters():
        if not parameter.any():  # as the heads of ViTs, which would hide all differences
            nn.init.normal_(parameter, std=0.1)
    generator = torch.Generator().manual_seed(0)
    found = [network.space.random(generator) for _ in range(count)]
    macs = costs.macs(network)
    configurations = [
        (Configuration(f"w-{i}", w, {"macs": float(macs(w)), "val_top1": 0.0}), network.extract(w))
        for i, w in enumerate(found)
    ]
    save_slimmable(folder, network, spec, configurations, {"macs": float(macs.full)})
    model = joslim.load(folder)
    assert isinstance(model, SlimmableModel)
    return model, configurations


def _row(folder: Path, name: str) -> list[str]:
    model, configurations = _save(folder, name, NUM_CONFIGURATIONS)
    total, share = _bytes(folder)
    image = torch.rand(2, *model.input_shape)
    difference = 0.0
    builds = []
    memory = [psutil.Process().memory_info().rss]
    for configuration, _ in configurations:
        start = time.perf_counter()
        model.at(configuration.id)
        builds.append(1000 * (time.perf_counter() - start))
        memory.append(psutil.Process().memory_info().rss)
    start = time.perf_counter()
    for _ in range(REPEATS):
        model.at("w-0")
    again = 1e6 * (time.perf_counter() - start) / REPEATS
    with torch.inference_mode():
        for configuration, dense in configurations:
            outputs = model.at(configuration.id)(image), dense.eval()(image)
            difference = max(difference, (outputs[0] - outputs[1]).abs().max().item())
    return [
        f"{total:,}",
        f"{share:.3f} ×",
        f"{statistics.median(builds):.1f} ms",
        f"{again:.2f} µs",
        f"{memory[-1] / memory[1]:.3f} ×",
        f"{difference:g}",
    ]


def _files_row(folder: Path, name: str) -> list[str]:
    model, configurations = _save(folder / "model", name, NUM_EXPORTED)
    weights = (folder / "model" / "weights.safetensors").stat().st_size
    export_onnx(model, folder / "bundle")
    bundle = sum(file.stat().st_size for file in (folder / "bundle").iterdir())
    images = torch.rand(2, *model.input_shape)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    differences, ratios = [], []
    for configuration, dense in configurations:
        program = torch.onnx.export(
            dense.eval(), (images,), input_names=["images"], output_names=["logits"], verbose=False
        )
        assert program is not None
        program.save(folder / "dense.onnx", external_data=False)
        files = folder / "bundle" / f"{configuration.id}.onnx", folder / "dense.onnx"
        sessions = [onnxruntime.InferenceSession(file, options) for file in files]
        (sliced,) = sessions[0].run(None, {"images": images.numpy()})
        with torch.no_grad():
            differences.append(abs(sliced - dense(images).numpy()).max())
        times: list[list[float]] = [[], []]
        for _ in range(ONNX_REPEATS):
            for session, taken in zip(sessions, times, strict=True):
                start = time.perf_counter()
                session.run(None, {"images": images.numpy()})
                taken.append(time.perf_counter() - start)
        ratios.append(statistics.median(times[0]) / statistics.median(times[1]))
    file, difference = folder / "network.pt2", 0.0
    export_pt2(model, file)
    extra = {"configurations.json": ""}
    exported = torch.export.load(file, extra_files=extra)
    run = exported.module(check_guards=False)
    by_id = {one["id"]: one for one in json.loads(extra["configurations.json"])["configurations"]}
    with torch.no_grad():
        for configuration, dense in configurations:
            one = by_id[configuration.id]
            found = run(images, one["widths"], exported.state_dict[one["private"]])
            difference = max(difference, (found - dense(images)).abs().max().item())
    return [
        f"{bundle / weights:.3f} ×",
        f"{max(differences):.1g}",
        ", ".join(f"{ratio:.2f} ×" for ratio in ratios),
        f"{file.stat().st_size / weights:.3f} ×",
        f"{difference:g}",
    ]


def _budget_rows(folder: Path) -> Iterator[list[str]]:
    model = joslim.load(paths.SLIMMABLE)
    assert isinstance(model, SlimmableModel)
    export_onnx(model, folder)
    times = [profile(threads, folder) for threads in (1, 2)]
    image = np.random.default_rng(0).random((1, *model.input_shape), np.float32)
    budgets = read_params().budgets
    for configuration in model.configurations:
        if configuration.id in budgets:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            session = onnxruntime.InferenceSession(folder / f"{configuration.id}.onnx", options)
            for _ in range(ONNX_REPEATS):
                session.run(None, {"images": image})
            events = json.loads(Path(session.end_profiling()).read_text())
            whole = sum(e["dur"] for e in events if e["name"] == "model_run")
            kernels = [e for e in events if e["name"].endswith("_kernel_time")]
            spent = sum(e["dur"] for e in kernels)
            convolutions = sum(e["dur"] for e in kernels if "Conv" in e["args"]["op_name"])
            shares = (convolutions, spent - convolutions, whole - spent)
            fraction = configuration.numbers["macs"] / model.full["macs"]
            onnx = [_of(found, configuration.id) for found in times]
            eager = [_eager_ms(model.at(configuration.id), image, threads) for threads in (1, 2)]
            yield [
                configuration.id,
                f"{fraction:.1%}",
                *(f"{milliseconds:.3f}" for milliseconds in (*onnx, *eager)),
                *(f"{share / whole:.0%}" for share in shares),
            ]
    for found in times:
        file = folder / "profile.json"
        file.write_text(json.dumps(found))
        predicted = fitted(load_supernet(paths.SUPERNET)[0], Profile.load(file))
        yield [found["device"], f"median error {predicted.table.median_error:.1%}", *[""] * 7]


def _of(found: dict[str, Any], identity: str) -> float:
    return next(one["latency_ms"] for one in found["configurations"] if one["id"] == identity)


def _eager_ms(module: nn.Module, image: np.ndarray, threads: int) -> float:
    times = []
    torch.set_num_threads(threads)
    with torch.inference_mode():
        for _ in range(ONNX_REPEATS):
            start = time.perf_counter()
            module(torch.from_numpy(image))
            times.append(1000 * (time.perf_counter() - start))
    torch.set_num_threads(1)
    return statistics.median(times)


def _bytes(folder: Path) -> tuple[int, float]:
    """Of all files in a folder, and how many times those of its weights."""
    total = sum(file.stat().st_size for file in folder.iterdir())
    return total, total / (folder / "weights.safetensors").stat().st_size


if __name__ == "__main__":
    main()
