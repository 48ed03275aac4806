"""Writes a registered model as a file of its own."""

import importlib.util
from pathlib import Path

import torch

from joslim.errors import ExportError
from joslim.supernet.slimmable_model import SlimmableModel
from pipelines.registry.lookup import Entry
from pipelines.registry.model_files import download, load_network

TOLERANCE = 1e-4
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check(output: Path, *, needs_onnx: bool) -> None:
    """Refuse what could not be written, before anything is downloaded.

    Raises:
        ExportError: If the extra ``onnx`` or the folder of ``output`` is missing.
    """
    if needs_onnx:
        require_onnx("format onnx")
    if not output.parent.is_dir():
        raise ExportError(f"--output is {output}, but there is no folder {output.parent}")


def require_onnx(what: str) -> None:
    """Refuse ``what`` where the extra ``onnx`` is missing.

    Raises:
        ExportError: Naming what is missing and how to install it.
    """
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{what} needs {', '.join(missing)}; run `pip install -e '.[onnx]'` in the checkout"
            + (", or choose --format pt2" if what.startswith("format") else "")
        )


def program(entry: Entry) -> torch.export.ExportedProgram:
    """A registered model as a `torch.export` program; images may come in batches of any size."""
    folder = download(entry)
    if (stored := folder / "data" / "model.pt2").exists():
        return torch.export.load(stored)
    slimmable = load_network(folder)
    dense = slimmable.extract(entry.id).eval().requires_grad_(False)
    # A batch of one would make the exported graph a graph for batches of one.
    example = torch.zeros(2, *slimmable.input_shape)
    return torch.export.export(dense, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def to_pt2(exported: torch.export.ExportedProgram, output: Path) -> None:
    """Write a program as a file."""
    torch.export.save(exported, output)


def to_onnx(exported: torch.export.ExportedProgram, output: Path) -> None:
    """Convert a program to ONNX and check that ONNX Runtime agrees with it.

    Raises:
        ExportError: If an output differs by more than 1e-4.
    """
    converted = torch.onnx.export(
        exported, input_names=["images"], output_names=["logits"], verbose=False
    )
    assert converted is not None
    _name_batch(converted)
    converted.save(output, external_data=False)
    difference = _difference(exported, output)
    if not difference <= TOLERANCE:
        output.unlink()
        raise ExportError(
            f"{output}: ONNX Runtime differs from PyTorch by {difference:.2g}; "
            f"expected at most {TOLERANCE:g}"
        )


def network(entry: Entry) -> SlimmableModel:
    """The network of a slimmable version."""
    return load_network(download(entry))


def _name_batch(converted: torch.onnx.ONNXProgram) -> None:
    """Call the batch dimension ``batch`` wherever it occurs; PyTorch numbers it."""
    graph = converted.model.graph
    (images,) = graph.inputs
    assert images.shape is not None
    numbered = images.shape[0]
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = type(value.shape)("batch" if d == numbered else d for d in value.shape)


@torch.no_grad()
def _difference(exported: torch.export.ExportedProgram, onnx: Path) -> float:
    """Largest difference of a logit, over batches of one and of three."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx)
    (args, _), module = exported.example_inputs, exported.module()
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch in (1, 3):
        images = torch.rand(batch, *args[0].shape[1:], generator=generator)
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        differences.append((module(images) - torch.from_numpy(logits)).abs().max().item())
    return max(differences)
