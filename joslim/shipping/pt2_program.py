"""One `torch.export` program for every width configuration: the widths are an input of it.

It needs PyTorch only, none of this project's code::

    extra = {"configurations.json": ""}
    exported = torch.export.load("network.pt2", extra_files=extra)
    program = exported.module(check_guards=False)
    one = json.loads(extra["configurations.json"])["configurations"][0]
    logits = program(images, one["widths"], exported.state_dict[one["private"]])
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from joslim.errors import ExportError
from joslim.supernet.slimmable_model import SlimmableModel
from joslim.tracing import Axis

DESCRIPTION = "configurations.json"

TOLERANCE = 1e-6
"""Largest difference from the network of views, relative to the largest output."""


def export_pt2(model: SlimmableModel, file: Path) -> None:
    """Write ``model`` as one file of all weights once, which runs at any widths.

    The program takes images in [0, 1], ``(batch, channels, height, width)``; the widths, a list of
    whole numbers; and the numbers that are private to a configuration, as batch norm's statistics,
    in one vector. It gives logits, ``(batch, classes)``. Beside it the file holds, as
    ``configurations.json``, every configuration of ``model`` with its widths, its numbers, and the
    key of its vector; and the names of the tensors that make up a vector, in their order. Other
    widths may be given too, with statistics of theirs.

    Raises:
        ExportError: If the file exists, the network cannot be traced with widths that vary, or
            gives other outputs then.
    """
    if file.exists():
        raise ExportError(f"{file} exists already; remove it, or choose another name")
    program = _Program(model)
    example = program.example()
    shapes = (
        {0: torch.export.Dim("batch")},
        [torch.export.Dim.AUTO for _ in example[1]],
        {0: torch.export.Dim.AUTO},
    )
    try:
        exported = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise ExportError(
            f"the network cannot be traced with widths that vary, so that no single program runs "
            f"at all of them: {error}; export configurations one by one, or as ONNX"
        ) from error
    _check(exported.module(check_guards=False), program, model)
    torch.export.save(exported, file, extra_files={DESCRIPTION: json.dumps(program.description())})


class _Program(nn.Module):
    """The full network with the private tensors of all configurations, as it is traced."""

    def __init__(self, model: SlimmableModel) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.dense)  # whose attributes are set while it is traced
        self.private = nn.Module()
        self._model = model
        self._names = list(dict.fromkeys(n for own in model.private.values() for n in own))
        for number, configuration in enumerate(model.configurations):
            state = model.at(configuration.id).state_dict()
            joined = [state[name].detach().flatten() for name in self._names]
            vector = torch.cat(joined) if joined else torch.zeros(1)
            self.private.register_buffer(f"{number}", vector)

    def forward(self, images: Tensor, widths: Sequence[int], vector: Tensor) -> Tensor:
        private = self._split(widths, vector)
        slices = self._model.slices
        state = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        tensors = {
            name: private[name] if name in private else _part(state[name], axes, widths)
            for name, axes in slices.tensors.items()
        }
        tensors |= {name: private[name] for name in private.keys() - tensors.keys()}
        values = slices.attributes_at(tuple(widths), self.network)
        full = {key: getattr(self.network.get_submodule(key[0]), key[1]) for key in values}
        try:
            self._set(values)
            logits: Tensor = torch.func.functional_call(self.network, tensors, (images,))
        finally:
            self._set(full)
        return logits

    def _set(self, attributes: Mapping[tuple[str, str], Any]) -> None:
        for (path, name), value in attributes.items():
            vars(self.network.get_submodule(path))[name] = value

    def _split(self, widths: Sequence[int], vector: Tensor) -> dict[str, Tensor]:
        """The private tensors, which stand in ``vector`` one after the other."""
        slices, state = self._model.slices, self.network.state_dict()
        private, start = {}, 0
        for name in self._names:
            shape = slices.shape(name, state[name], tuple(widths))
            size = math.prod(shape)
            private[name] = vector.narrow(0, start, size).view(shape)
            start += size
        return private

    def inputs(self, number: int) -> tuple[list[int], Tensor]:
        """Widths and private vector of a configuration."""
        return list(self._model.configurations[number].widths), self.private.get_buffer(f"{number}")

    def example(self) -> tuple[Tensor, list[int], Tensor]:
        """Inputs at widths that are neither full nor alike, so that none is taken for constant."""
        model = self._model
        fulls = model.slices.full
        varied = (max(2, full - 1 - g % max(1, full // 4)) for g, full in enumerate(fulls))
        widths = [min(width, full) for width, full in zip(varied, fulls, strict=True)]
        state, axes = self.network.state_dict(), model.slices.tensors
        joined = [
            (_part(state[name], axes[name], widths) if name in axes else state[name]).flatten()
            for name in self._names
        ]
        vector = torch.cat(joined) if joined else torch.zeros(1)
        return torch.zeros(2, *model.input_shape), widths, vector

    def description(self) -> dict[str, Any]:
        """What stands beside the program."""
        return {
            "input_shape": list(self._model.input_shape),
            "groups": list(self._model.slices.groups),
            "full": dict(self._model.full),
            "private": self._names,
            "configurations": [
                {
                    "id": configuration.id,
                    "widths": list(configuration.widths),
                    "numbers": dict(configuration.numbers),
                    "private": f"private.{number}",
                }
                for number, configuration in enumerate(self._model.configurations)
            ],
        }


def _part(tensor: Tensor, axes: tuple[Axis, ...], widths: Sequence[int]) -> Tensor:
    """As `joslim.supernet.slicing.take`, but without a look at the widths."""
    for dim, axis in enumerate(axes):
        if all(part.group is None for part in axis):
            continue
        starts = accumulate((part.full for part in axis), initial=0)
        parts = [
            tensor.narrow(dim, start, part.size(tuple(widths)))
            for start, part in zip(starts, axis, strict=False)
        ]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return tensor


@torch.no_grad()
def _check(run: nn.Module, program: _Program, model: SlimmableModel) -> None:
    generator = torch.Generator().manual_seed(0)
    for number, configuration in enumerate(model.configurations):
        for batch in (1, 3):
            images = torch.rand(batch, *model.input_shape, generator=generator)
            expected = model.at(configuration.id)(images)
            difference = (run(images, *program.inputs(number)) - expected).abs().max()
            if not difference <= TOLERANCE * expected.abs().max():
                raise ExportError(
                    f"configuration '{configuration.id}': the program differs by "
                    f"{difference.item():.2g}, where the largest logit is "
                    f"{expected.abs().max().item():.2g}"
                )
