"""One stored network at any of its width configurations, switched at run time."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from joslim import pareto
from joslim.budgets import Budget, infeasible, parse_budget
from joslim.errors import BudgetError, WidthError
from joslim.supernet.slicing import take
from joslim.tracing import Axis, axis_size
from joslim.widths import Widths


@dataclass(frozen=True)
class Configuration:
    """A width configuration that a stored network can run at.

    Attributes:
        id: Its name.
        widths: Channels per group.
        numbers: Costs by column (``macs``, ``params``, ``memory_bytes``, ``latency_ms``) and what
            was measured, ``val_top1`` among it.
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


class SlimmableModel:
    """A network whose weights are in memory once, for all of its width configurations.

    Threads may use different configurations at the same time: each is a module of its own, and
    none is changed once it is there.

    Attributes:
        configurations: All that there are, cheapest first.
    """

    def __init__(
        self,
        dense: nn.Module,
        slices: Slices,
        configurations: Sequence[Configuration],
        statistics: Mapping[str, Mapping[str, Tensor]],
        full: Mapping[str, float],
    ) -> None:
        """Run slices of ``dense``.

        Args:
            dense: The full network with the shared weights.
            slices: What belongs to a width configuration.
            configurations: Those that can be asked for.
            statistics: For each configuration's id its own buffers, of batch norm, by name.
            full: The full network's costs by column, for budgets in percent.
        """
        self.configurations = tuple(sorted(configurations, key=lambda c: c.numbers["macs"]))
        self._dense = dense.eval().requires_grad_(False)
        self._slices = slices
        self._statistics = statistics
        self._full = full
        self._modules: dict[str | Widths, nn.Module] = {}
        self._lock = threading.Lock()

    def at(self, wanted: str | Widths) -> nn.Module:
        """The network at one width configuration, as a module in eval mode.

        Its parameters are views of the shared ones; only where channels have to be gathered (after
        a concatenation) they are copies. It is made once, and must not be trained.

        Args:
            wanted: A budget, as ``macs=50%`` or ``macs=12M,memory=4MiB``: the configuration with
                the best ``val_top1`` within all limits; or a configuration's id, or its widths.

        Raises:
            BudgetError: If no configuration is within the budget; names the cheapest.
            WidthError: If there is no such configuration.
        """
        module = self._modules.get(wanted)
        if module is None:
            found = self.configuration(wanted)
            with self._lock:
                module = self._modules.get(found.widths) or self._build(found)
                self._modules[found.widths] = self._modules[wanted] = module
        return module

    def configuration(self, wanted: str | Widths) -> Configuration:
        """The configuration that `at` takes; arguments and errors are the same."""
        if isinstance(wanted, str) and "=" in wanted:
            return self._best_within(parse_budget(wanted))
        for configuration in self.configurations:
            if wanted in (configuration.id, configuration.widths):
                return configuration
        ids = ", ".join(c.id for c in self.configurations)
        raise WidthError(
            f"no configuration is {wanted!r}; expected a budget such as 'macs=50%', the widths of "
            f"a configuration, or its id: {ids}"
        )

    def _best_within(self, budget: Budget) -> Configuration:
        columns = [limit.quantity.column for limit in budget]
        limits = [
            limit.resolve(self._full.get(column))
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

    def _build(self, configuration: Configuration) -> nn.Module:
        own = self._statistics.get(configuration.id, {})
        module = _copy(self._dense, "", self._slices, configuration.widths, own, {})
        for (path, name), axes in self._slices.attributes.items():
            layer = module.get_submodule(path)
            full = getattr(layer, name)
            sizes = tuple(axis_size(axis, configuration.widths) for axis in axes)
            vars(layer)[name] = type(full)(sizes) if isinstance(full, tuple | list) else sizes[0]
        return module


def _copy(
    module: nn.Module,
    path: str,
    slices: Slices,
    widths: Widths,
    own: Mapping[str, Tensor],
    copies: dict[nn.Module, nn.Module],
) -> nn.Module:
    """A module of the same code with slices of the tensors; `copy.deepcopy` takes 20 times longer.

    Args:
        path: Of the module in the whole network, with a dot at its end.
        own: Tensors, by name, that come instead of slices.
        copies: Of modules that were met before, which may stand in several places.
    """
    if module in copies:
        return copies[module]
    twin = copies[module] = module.__class__.__new__(module.__class__)
    state: dict[str, Any] = dict(vars(module))
    state["_parameters"] = {
        leaf: _parameter(parameter, path + leaf, slices, widths)
        for leaf, parameter in module._parameters.items()
    }
    state["_buffers"] = {
        leaf: own[path + leaf]
        if path + leaf in own
        else _sliced(buffer, path + leaf, slices, widths)
        for leaf, buffer in module._buffers.items()
    }
    state["_modules"] = {
        name: child and _copy(child, f"{path}{name}.", slices, widths, own, copies)
        for name, child in module._modules.items()
    }
    twin.__dict__.update(state)
    return twin


def _parameter(
    parameter: nn.Parameter | None, name: str, slices: Slices, widths: Widths
) -> nn.Parameter | None:
    part = _sliced(parameter, name, slices, widths)
    if part is None or part is parameter:
        return parameter
    return nn.Parameter(part, requires_grad=False)


def _sliced(tensor: Tensor | None, name: str, slices: Slices, widths: Widths) -> Tensor | None:
    axes = slices.tensors.get(name)
    return tensor if tensor is None or axes is None else take(tensor, axes, widths)
