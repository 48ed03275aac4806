"""One file of weights for ONNX Runtime, and a small graph for each width configuration.

A graph's first nodes take slices of the shared weights. ONNX Runtime computes them once, when a
session is made, and then fuses batch norm into convolutions as in any other model: a session is as
fast as that of a dense export.
"""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from joslim.errors import ExportError
from joslim.machine import turns
from joslim.supernet.slimmable_model import Configuration, SlimmableModel
from joslim.tracing import Axis
from joslim.widths import Widths

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
WEIGHTS, DESCRIPTION, RUNNER = "weights.bin", "bundle.json", "run.py"

TOLERANCE = 1e-4
"""Largest difference of ONNX Runtime's outputs from PyTorch's, relative to the largest output."""

ALIGNMENT = 64
"""Bytes at multiples of which tensors begin, so that they can be mapped into memory."""

MAX_FOLDED = 8
"""Elements of what is computed with at export: shapes and numbers, not weights."""

MAX_RESULT = 4096
"""Elements of what comes of it, as a bias of zeros."""


def export_onnx(model: SlimmableModel, folder: Path) -> None:
    """Write a bundle: weights once, a graph per configuration, and a script that runs them.

    The script, ``run.py`` with ``turns.py``, needs onnxruntime and numpy only. Graphs take
    ``images``, float32 in [0, 1] of ``(batch, channels, height, width)``, and give ``logits``.

    Args:
        model: With all configurations that the bundle shall hold.
        folder: To be made; must not exist.

    Raises:
        ExportError: If packages are missing, the folder exists, or outputs differ from PyTorch's.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX needs {', '.join(missing)}; run: pip install {' '.join(missing)}")
    if folder.exists():
        raise ExportError(f"{folder} exists already; remove it, or choose another name")
    folder.mkdir(parents=True)
    try:
        places = _write_weights(model.dense, folder / WEIGHTS)
        for configuration in model.configurations:
            _write_graph(model, configuration, places, folder)
            _check(model, configuration, folder)
        _describe(model, folder)
        shutil.copyfile(Path(__file__).with_name("run_bundle.py"), folder / RUNNER)
        shutil.copyfile(turns.__file__, folder / "turns.py")
    except BaseException as error:
        shutil.rmtree(folder)
        if isinstance(error, Exception) and not isinstance(error, ExportError):
            raise ExportError(f"the network does not run as ONNX: {error!r}") from error
        raise


def _write_weights(dense: nn.Module, file: Path) -> dict[str, tuple[int, Tensor]]:
    """Write the parameters one after the other; where each begins."""
    places: dict[str, tuple[int, Tensor]] = {}
    with file.open("wb") as output:
        for name, parameter in dense.named_parameters():
            output.write(b"\0" * (-output.tell() % ALIGNMENT))
            places[name] = (output.tell(), parameter)
            output.write(parameter.detach().cpu().contiguous().numpy().tobytes())
    return places


def _write_graph(
    model: SlimmableModel,
    configuration: Configuration,
    places: dict[str, tuple[int, Tensor]],
    folder: Path,
) -> None:
    import onnx_ir as ir
    from onnx_ir.passes import common
    from onnxscript import optimizer

    example = torch.zeros(2, *model.input_shape)
    program = torch.onnx.export(
        model.at(configuration.id),
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        optimize=False,  # which would fuse norms into the weights, so that none could be shared
        verbose=False,
    )
    assert program is not None
    graph = program.model.graph
    first = graph[0]
    shared = places.keys() - model.private[configuration.id].keys()
    for name in [name for name in graph.initializers if name in shared]:
        start, parameter = places[name]
        narrow = graph.initializers.pop(name)
        whole = _shared(name, start, parameter, folder)
        graph.register_initializer(whole)
        nodes = list(_slices(whole, model.slices.tensors.get(name, ()), configuration.widths))
        graph.insert_before(first, nodes)
        ir.convenience.replace_all_uses_with(narrow, nodes[-1].outputs[0] if nodes else whole)
    optimizer.fold_constants(
        program.model, input_size_limit=MAX_FOLDED, output_size_limit=MAX_RESULT
    )
    for tidy in (
        common.RemoveUnusedNodesPass(),
        common.ClearMetadataAndDocStringPass(),
        common.NameFixPass(),
    ):
        tidy(program.model)
    ir.save(program.model, folder / f"{configuration.id}.onnx")


def _shared(name: str, start: int, parameter: Tensor, folder: Path) -> Any:
    """A parameter as a value of a graph, whose numbers stand in the file of weights."""
    import onnx_ir as ir

    shape = ir.Shape(tuple(parameter.shape))
    kind = ir.DataType.from_numpy(parameter.detach().cpu().numpy().dtype)
    size = parameter.numel() * parameter.element_size()
    numbers = ir.ExternalTensor(
        WEIGHTS, start, size, kind, shape=shape, name=name, base_dir=str(folder)
    )
    return ir.Value(name=name, shape=shape, type=ir.TensorType(kind), const_value=numbers)


def _slices(value: Any, axes: tuple[Axis, ...], widths: Widths) -> Iterator[Any]:
    """Nodes that take a sub-network's part of ``value``, the last of which gives it."""
    import onnx_ir as ir

    def part(whole: Any, dim: int, start: int, size: int) -> Iterator[Any]:
        bounds = [ir.node("Constant", [], {"value_ints": [n]}) for n in (start, start + size, dim)]
        yield from bounds
        yield ir.node("Slice", [whole, *(bound.outputs[0] for bound in bounds)])

    for dim, axis in enumerate(axes):
        sizes = [piece.size(widths) for piece in axis]
        if sum(sizes) == sum(piece.full for piece in axis):
            continue
        pieces = []
        for start, size in zip(accumulate((p.full for p in axis), initial=0), sizes, strict=False):
            nodes = list(part(value, dim, start, size))
            yield from nodes
            pieces.append(nodes[-1].outputs[0])
        if len(pieces) == 1:
            (value,) = pieces
        else:
            joined = ir.node("Concat", pieces, {"axis": dim})
            yield joined
            value = joined.outputs[0]


@torch.no_grad()
def _check(model: SlimmableModel, configuration: Configuration, folder: Path) -> None:
    """Compare with PyTorch, on batches of one and of three."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / f"{configuration.id}.onnx")
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        images = torch.rand(batch, *model.input_shape, generator=generator)
        (logits,) = session.run(None, {"images": images.numpy()})
        expected = model.at(configuration.id)(images)
        difference = (expected - torch.from_numpy(logits)).abs().max().item()
        largest = expected.abs().max().item()
        if not difference <= TOLERANCE * largest:
            raise ExportError(
                f"configuration '{configuration.id}': ONNX Runtime differs from PyTorch by "
                f"{difference:.2g}, where the largest logit is {largest:.2g}; expected at most "
                f"{TOLERANCE:g} of it"
            )


def _describe(model: SlimmableModel, folder: Path) -> None:
    content = {
        "input_shape": list(model.input_shape),
        "groups": list(model.slices.groups),
        "full": dict(model.full),
        "configurations": [
            {"id": c.id, "file": f"{c.id}.onnx", "widths": list(c.widths), **c.numbers}
            for c in model.configurations
        ],
    }
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1) + "\n")
