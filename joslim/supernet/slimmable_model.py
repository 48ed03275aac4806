"""One stored network at any of its width configurations, switched at run time."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from joslim import pareto
from joslim.budgets import Budget, infeasible, parse_budget
from joslim.errors import BudgetError, WidthError
from joslim.supernet.slicing import take
from joslim.tracing import Axis, axis_size
from joslim.widths import Widths

_ID = re.compile(r"\w[\w.:-]*")

MAX_REMEMBERED = 1024
"""Budgets whose configurations are not looked up again."""


@dataclass(frozen=True)
class Configuration:
    """A width configuration that a stored network can run at.

    Attributes:
        id: Its name.
        widths: Channels per group.
        numbers: Costs by column (``macs``, ``params``, ``memory_bytes``, ``latency_ms``) and what
            was measured; ``macs`` and ``val_top1`` must be there.
    """

    id: str
    widths: Widths
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Slices:
    """Which parts of a network's tensors belong to a width configuration.

    Attributes:
        groups: Names of the channel groups, in the order of widths.
        tensors: An axis per dimension for every parameter and buffer that follows the widths.
        attributes: Attributes of layers that follow them, ``(path, name) -> axes``.
    """

    groups: tuple[str, ...]
    tensors: Mapping[str, tuple[Axis, ...]]
    attributes: Mapping[tuple[str, str], tuple[Axis, ...]]

    @cached_property
    def full(self) -> Widths:
        """Channels of each group in the full network."""
        parts = (part for axes in self.tensors.values() for axis in axes for part in axis)
        found = {part.group: part.full // part.block for part in parts if part.group is not None}
        return tuple(found[group] for group in range(len(self.groups)))

    def shape(self, name: str, full: Tensor, widths: Widths) -> tuple[int, ...]:
        """Of the part of a tensor that belongs to ``widths``; ``full`` is the whole tensor."""
        axes = self.tensors.get(name)
        return tuple(full.shape if axes is None else (axis_size(axis, widths) for axis in axes))

    def attributes_at(
        self, widths: Widths, dense: nn.Module
    ) -> dict[tuple[str, str], int | Sequence[int]]:
        """The values of those attributes of the full network ``dense`` at ``widths``."""
        values: dict[tuple[str, str], int | Sequence[int]] = {}
        for (path, name), axes in self.attributes.items():
            full = getattr(dense.get_submodule(path), name)
            sizes = tuple(axis_size(axis, widths) for axis in axes)
            values[path, name] = type(full)(sizes) if isinstance(full, tuple | list) else sizes[0]
        return values


class SlimmableModel:
    """A network whose weights are in memory once, for all of its width configurations.

    Threads may use different configurations at the same time: each is a module of its own, and
    none is changed once it is there.

    Attributes:
        configurations: All that there are, cheapest first.
        dense: The full network with the shared weights.
        slices: Which parts of its tensors belong to a width configuration.
        private: Tensors that a configuration has of its own, by its id and their names.
        full: The full network's costs by column.
        input_shape: Of one image, ``(channels, height, width)``.
    """

    def __init__(
        self,
        dense: nn.Module,
        slices: Slices,
        configurations: Sequence[Configuration],
        private: Mapping[str, Mapping[str, Tensor]],
        full: Mapping[str, float],
        input_shape: tuple[int, int, int],
    ) -> None:
        """Run slices of ``dense``.

        Args:
            dense: The full network with the shared weights.
            slices: What belongs to a width configuration.
            configurations: Those that can be asked for.
            private: For each configuration's id what it has of its own, by name: batch norm's
                statistics, and parameters that were fine-tuned for it.
            full: The full network's costs by column, for budgets in percent.
            input_shape: Of one image, ``(channels, height, width)``.

        Raises:
            WidthError: If two configurations have one id, or an id could be no file's name.
        """
        if len({c.id for c in configurations}) < len(configurations):
            raise WidthError("two configurations have the same id; expected one for each")
        for configuration in configurations:
            if not _ID.fullmatch(configuration.id):
                raise WidthError(
                    f"a configuration is called {configuration.id!r}; expected letters, digits and "
                    "any of _ . : - after the first, as files are named so"
                )
        self.configurations = tuple(sorted(configurations, key=lambda c: c.numbers["macs"]))
        self.dense = dense.eval().requires_grad_(False)
        self.slices = slices
        self.private = private
        self.full = full
        self.input_shape = input_shape
        self._modules: dict[str, nn.Module] = {}
        self._find = lru_cache(MAX_REMEMBERED)(self._found)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        ids = ", ".join(configuration.id for configuration in self.configurations)
        return f"SlimmableModel({len(self.configurations)} configurations: {ids})"

    def at(self, wanted: str | Sequence[int]) -> nn.Module:
        """The network at one width configuration, as a module in eval mode.

        Its parameters are views of the shared ones, beside those that are its own; only where
        channels have to be gathered (after a concatenation) they are copies. It is made once, and
        must not be trained.

        Args:
            wanted: A budget, as ``macs=50%`` or ``macs=12M,memory=4MiB``: the configuration with
                the best ``val_top1`` within all limits; or a configuration's id, as the name of a
                budget that was fine-tuned for; or widths, of which the best one counts.

        Raises:
            BudgetError: If no configuration is within the budget; names the cheapest.
            WidthError: If there is no such configuration.
        """
        found = self.configuration(wanted)
        module = self._modules.get(found.id)
        if module is None:
            with self._lock:
                module = self._modules.get(found.id) or self._build(found)
                self._modules[found.id] = module
        return module

    def configuration(self, wanted: str | Sequence[int]) -> Configuration:
        """The configuration that `at` takes; arguments and errors are the same."""
        return self._find(wanted if isinstance(wanted, str) else tuple(map(int, wanted)))

    def extract(self, wanted: str | Sequence[int]) -> nn.Module:
        """A dense network that owns its weights, to be trained on; else as `at`, errors too."""
        model = self._build(self.configuration(wanted))
        for module in model.modules():
            module._parameters.update(
                (leaf, nn.Parameter(parameter.clone()))
                for leaf, parameter in module._parameters.items()
                if parameter is not None
            )
            module._buffers.update(
                (leaf, buffer.clone())
                for leaf, buffer in module._buffers.items()
                if buffer is not None
            )
        return model

    def extended(
        self, added: Iterable[tuple[Configuration, Mapping[str, Tensor]]]
    ) -> "SlimmableModel":
        """This network with more configurations, each with the tensors that are its own."""
        found = list(added)
        return SlimmableModel(
            self.dense,
            self.slices,
            [*self.configurations, *(configuration for configuration, _ in found)],
            {**self.private, **{configuration.id: own for configuration, own in found}},
            self.full,
            self.input_shape,
        )

    def to(self, device: torch.device | str) -> "SlimmableModel":
        """Move the shared weights to ``device``; modules that `at` gave before stay where they are.

        Returns:
            Itself.
        """
        with self._lock:
            self.dense.to(device)
            self.private = {
                identity: {name: tensor.to(device) for name, tensor in own.items()}
                for identity, own in self.private.items()
            }
            self._modules = {}
        return self

    def _found(self, wanted: str | Widths) -> Configuration:
        if isinstance(wanted, str) and "=" in wanted:
            return self._best_within(parse_budget(wanted))
        named = [c for c in self.configurations if wanted in (c.id, c.widths)]
        if named:
            return max(named, key=lambda c: c.numbers["val_top1"])
        ids = ", ".join(c.id for c in self.configurations)
        raise WidthError(
            f"no configuration is {wanted!r}; expected a budget such as 'macs=50%', the widths of "
            f"a configuration, or its id: {ids}"
        )

    def _best_within(self, budget: Budget) -> Configuration:
        columns = [limit.quantity.column for limit in budget]
        limits = [
            limit.resolve(self.full.get(column))
            for limit, column in zip(budget, columns, strict=True)
        ]
        known = [c for c in self.configurations if all(column in c.numbers for column in columns)]
        costs = torch.tensor(
            [[c.numbers[column] for column in columns] for c in known], dtype=torch.float64
        ).view(len(known), len(columns))
        errors = torch.tensor([1 - c.numbers["val_top1"] for c in known], dtype=torch.float64)
        best = pareto.best_under(errors, costs, limits)
        if best is None:
            raise BudgetError(infeasible("configuration", budget, self._cheapest))
        return known[best]

    def _cheapest(self, column: str) -> tuple[str, Mapping[str, float]] | None:
        known = [c for c in self.configurations if column in c.numbers]
        if not known:
            return None
        least = min(known, key=lambda c: (c.numbers[column], -c.numbers["val_top1"]))
        return f"'{least.id}'", least.numbers

    @torch.inference_mode(False)
    @torch.no_grad()
    def _build(self, configuration: Configuration) -> nn.Module:
        widths, own = configuration.widths, self.private[configuration.id]

        def part(tensor: Tensor | None, name: str) -> Tensor | None:
            """What of a parameter or buffer belongs to the configuration."""
            if name in own:
                return own[name]
            axes = self.slices.tensors.get(name)
            return tensor if tensor is None or axes is None else take(tensor, axes, widths)

        # `copy.deepcopy` would take 20 times as long.
        copies = {m: m.__class__.__new__(m.__class__) for m in self.dense.modules()}
        for path, module in self.dense.named_modules():
            prefix = f"{path}." if path else ""
            state = {key: _with_copies(value, copies) for key, value in vars(module).items()}
            state["_parameters"] = {
                leaf: _parameter(parameter, part(parameter, prefix + leaf))
                for leaf, parameter in module._parameters.items()
            }
            state["_buffers"] = {
                leaf: part(buffer, prefix + leaf) for leaf, buffer in module._buffers.items()
            }
            copies[module].__dict__.update(state)
        copied = copies[self.dense]
        for (path, name), value in self.slices.attributes_at(widths, self.dense).items():
            vars(copied.get_submodule(path))[name] = value
        return copied


def _parameter(full: nn.Parameter | None, part: Tensor | None) -> nn.Parameter | None:
    """A parameter of its own in the memory of ``part``, so that `Module.to` changes no other."""
    if full is None or part is None:
        return None
    return nn.Parameter(part.detach(), requires_grad=False)


def _with_copies(value: Any, copies: Mapping[nn.Module, nn.Module]) -> Any:
    """An attribute of a module, with the copies in place of the modules that it refers to."""
    if isinstance(value, nn.Module):
        return copies.get(value, value)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _with_copies(inner, copies)) for key, inner in value.items())
    if type(value) in (list, tuple, set):
        return type(value)(_with_copies(inner, copies) for inner in value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        return MethodType(value.__func__, copies.get(value.__self__, value.__self__))
    return value
