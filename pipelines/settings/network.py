"""The network that ``params.yaml`` names, built, and its budgets beside what they can be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from joslim import costs, data
from joslim.budgets import Limit
from joslim.costs.latency import Latency
from joslim.errors import ConfigError, JoslimError
from joslim.machine.timing import time_models
from joslim.shipping.latency import has_onnx_runtime
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.private import private_parameters
from pipelines.settings.keys import with_keys
from pipelines.settings.params import Params
from pipelines.settings.profiles import DeviceLatency, device_latencies, device_latency


@dataclass(frozen=True)
class Range:
    """A limit between what the network's largest and smallest sub-networks cost.

    Attributes:
        limit: As the user wrote it.
        full: Of the full network, in the unit of the quantity's column.
        smallest: Of the smallest sub-network.
    """

    limit: Limit
    full: float
    smallest: float

    def require(self, key: str) -> None:
        """Refuse a limit that no sub-network keeps to.

        Args:
            key: That has the limit, for the error.

        Raises:
            ConfigError: If the smallest sub-network costs more.
        """
        # A latency is another each time, and ONNX Runtime's, in which the front is measured where
        # there is one, far below PyTorch's; what is in doubt is decided then.
        doubt = 1.0
        if self.limit.quantity.is_measured:
            doubt = 0.02 if has_onnx_runtime() else 0.5
        if self.limit.resolve(self.full) < doubt * self.smallest:
            show = self.limit.quantity.format
            raise ConfigError(
                f"{key} is {self.limit}, but the smallest sub-network costs {show(self.smallest)} "
                f"({self.smallest / self.full:.1%} of the full one's {show(self.full)}); raise the "
                f"limit or lower network.min_width{self.limit.hint}"
            )


@dataclass(frozen=True)
class Plan:
    """What the settings lead to.

    Attributes:
        classes: Names of the images' classes.
        network: With fresh or pretrained weights.
        budgets: The limits of each, by its name.
        profiles: Of other devices, in the checkout.
    """

    classes: tuple[str, ...]
    network: SlimmableNetwork
    budgets: Mapping[str, tuple[Range, ...]]
    profiles: list[DeviceLatency]


def plan(params: Params, path: Path) -> Plan:
    """Find the classes, build the network, and check what has to fit it.

    Args:
        params: Values that are right by themselves.
        path: Their file, for errors.

    Raises:
        ConfigError: Naming the key, its value and what is allowed.
    """
    try:
        classes = data.classes(params.data.source, params.data.path)
    except JoslimError as error:
        text = with_keys(str(error))
        key = "" if text.startswith("data.path") else "data.path: "
        raise ConfigError(f"{path}: {key}{text}") from error
    try:
        spec = params.network_spec(len(classes))
        network = spec.build(params.network.weights, allow=params.network.own_code)
        image = torch.zeros(2, params.data.channels, *(params.data.image_size,) * 2)
        private_parameters(network.model, params.finetune.private, image)
    except JoslimError as error:
        raise ConfigError(f"{path}: network: {with_keys(str(error))}") from error
    profiles = device_latencies(network)
    if params.search.objective.startswith("latency@"):
        _profiled(params.search.objective, network, f"{path}: search.objective")
    for limit in params.limits():
        _range(limit, network, params).require(f"{path}: search.limits")
    return Plan(classes, network, dict(_budgets(params, network, path)), profiles)


def _budgets(
    params: Params, network: SlimmableNetwork, path: Path
) -> Iterator[tuple[str, tuple[Range, ...]]]:
    for name in params.budgets:
        ranges = tuple(_range(limit, network, params) for limit in params.budget(name))
        for found in ranges:
            found.require(f"{path}: budgets.{name}")
        yield name, ranges


def _range(limit: Limit, network: SlimmableNetwork, params: Params) -> Range:
    quantity = limit.quantity
    if not quantity.is_measured:
        cost = costs.COSTS[quantity.name](network)
        return Range(limit, cost.full, cost.smallest)
    if quantity.name != "latency":
        predicted = _profiled(quantity.name, network, "budgets")
        return Range(limit, predicted.full, predicted.smallest)
    space, size = network.space, params.data.image_size
    ends = {widths: network.extract(widths) for widths in (space.full, space.smallest)}
    image = torch.zeros(1, params.data.channels, size, size)
    found = time_models(ends, image, repeats=7)
    return Range(limit, found[space.full].milliseconds, found[space.smallest].milliseconds)


def _profiled(quantity: str, network: SlimmableNetwork, key: str) -> Latency:
    """The fitted latency on another device, of which the checkout has a profile."""
    try:
        return device_latency(network, quantity.partition("@")[2]).predicted
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
