"""One stored network for all budgets: its bytes, and what a switch of widths costs at run time.

Each network, with random weights, is saved with ten width configurations and loaded again. Printed
are the folder's bytes against those of its weights alone, the time to build a configuration and to
ask for it again, what ten configurations add to the memory of one, and the largest difference of an
output from the extracted network's. A line of the default run follows, after `dvc repro front`.

The second table is of ONNX bundles: bytes, and what a graph of slices differs from a dense export,
in outputs and in milliseconds, with sessions of one thread that take turns.
"""

import statistics
import tempfile
import time
from pathlib import Path

import onnxruntime
import psutil
import torch
from torch import nn

import joslim
from benchmarks import machine
from joslim import costs
from joslim.shipping import export_onnx
from joslim.supernet import Configuration, NetworkSpec, SlimmableModel, save_slimmable
from pipelines.settings import paths

NETWORKS = {
    "resnet20": 32, "torchvision:mobilenet_v2": 96, "torchvision:densenet121": 64,
    "torchvision:convnext_tiny": 64, "torchvision:vit_b_32": 224,
}  # fmt: skip
ONNX = ("resnet20", "torchvision:mobilenet_v2", "torchvision:densenet121")
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
    print("\n| bundle | bytes | of the weights' | difference from dense | time against dense |")
    print("|---|---:|---:|---:|---:|")
    for name in ONNX:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| `{name}` |", " | ".join(_onnx_row(Path(folder), name)), "|", flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _save(
    folder: Path, name: str, count: int
) -> tuple[SlimmableModel, list[tuple[Configuration, nn.Module]]]:
    """A network with random weights and widths, saved and loaded again; what was saved."""
    torch.manual_seed(0)
    size = NETWORKS[name]
    normalisation = (0.5,) * 3
    spec = NetworkSpec(name, 10, 3, size, normalisation, normalisation)
    network = spec.build().eval()
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


def _onnx_row(folder: Path, name: str) -> list[str]:
    model, configurations = _save(folder / "model", name, NUM_EXPORTED)
    export_onnx(model, folder / "bundle")
    weights = (folder / "model" / "weights.safetensors").stat().st_size
    total = sum(file.stat().st_size for file in (folder / "bundle").iterdir())
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
        sliced, whole = (session.run(None, {"images": images.numpy()})[0] for session in sessions)
        differences.append(abs(sliced - whole).max())
        times: list[list[float]] = [[], []]
        for _ in range(ONNX_REPEATS):
            for session, taken in zip(sessions, times, strict=True):
                start = time.perf_counter()
                session.run(None, {"images": images.numpy()})
                taken.append(time.perf_counter() - start)
        ratios.append(statistics.median(times[0]) / statistics.median(times[1]))
    shown = ", ".join(f"{ratio:.2f} ×" for ratio in ratios)
    return [f"{total:,}", f"{total / weights:.3f} ×", f"{max(differences):g}", shown]


def _bytes(folder: Path) -> tuple[int, float]:
    """Of all files in a folder, and how many times those of its weights."""
    total = sum(file.stat().st_size for file in folder.iterdir())
    return total, total / (folder / "weights.safetensors").stat().st_size


if __name__ == "__main__":
    main()
