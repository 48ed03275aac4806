"""Reading ``params.yaml`` and checking it, before anything runs."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from joslim import costs
from joslim.budgets import Limit
from joslim.costs.latency import Latency
from joslim.errors import ConfigError, JoslimError
from joslim.machine.timing import time_models
from joslim.shipping.latency import has_onnx_runtime
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.private import private_parameters
from joslim.training.config import TrainingConfig
from pipelines.settings import paths
from pipelines.settings.keys import with_keys
from pipelines.settings.params import ExecutionParams, Params
from pipelines.settings.profiles import device_latencies, device_latency


def load_params(path: Path = paths.PARAMS) -> Params:
    """Read and check ``params.yaml``, also against the network that it names.

    Raises:
        ConfigError: Naming the key, its value and what is allowed.
    """
    params = read_params(path)
    _check_network(params, path)
    return params


def read_params(path: Path = paths.PARAMS) -> Params:
    """Read ``params.yaml`` and check every value by itself."""
    try:
        content = yaml.load(path.read_text(), _Loader)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if content is None:
        sections = ", ".join(Params.model_fields)
        raise ConfigError(f"{path} is empty; expected the sections {sections}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentences(error)}") from error
    try:
        params.limits()
        for name in params.budgets:
            params.budget(name)
        if params.training.lighting and params.data.channels != 3:
            raise ConfigError(
                f"training.lighting is {params.training.lighting:g}, but data.channels is "
                f"{params.data.channels}; expected 0, as it changes colours of 3 channels"
            )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return params


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's readers would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if (first := lines.setdefault(str(key.value), line)) != line:
                raise yaml.YAMLError(
                    f"{key.value} is given twice, in lines {first} and {line}; expected it once"
                )
        return super().construct_mapping(node, deep)


RENAMED = {"training.num_proposals": "training.proposals_per_step"}
"""Keys of version 0.1 that have another name now."""


def _sentences(error: ValidationError) -> str:
    """One line each; a key that is missing may be one that is misspelt."""
    found = error.errors()
    missing = [_key(e) for e in found if e["type"] == "missing"]
    unknown = [_key(e) for e in found if e["type"] == "extra_forbidden"]
    optional = [f"training.{name}" for name in TrainingConfig.model_fields]
    moved = [f"execution.{name}" for name in ExecutionParams.model_fields]
    known = {_name(key): key for key in (*optional, *moved, *missing)}
    meant = {
        key: known[match[0]]
        for key in unknown
        if (match := get_close_matches(_name(key), known, n=1))
    }
    meant |= {key: RENAMED[key] for key in unknown if key in RENAMED}
    told = [e for e in found if e["type"] != "missing" or _key(e) not in meant.values()]
    return "\n".join(
        _sentence(e) + (f"; did you mean {meant[_key(e)]}?" if _key(e) in meant else "")
        for e in told
    )


def _key(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"])


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _sentence(error: Any) -> str:
    key = _key(error)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"].startswith("string_") and "[key]" in error["loc"]:
        return (
            f"{error['loc'][0]}: a name is '{error['input']}'; expected at most 30 lower-case "
            "letters, digits and hyphens, the first a letter"
        )
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    if error["type"] in ("dict_type", "model_type"):
        return (
            f"{key or 'the file'} is {error['input']!r}; expected keys with values, as key: value"
        )
    if error["type"] == "value_error":
        return message if message.startswith(key) else f"{key}: {message}"
    return f"{key} is {error['input']!r}; {message[0].lower()}{message[1:]}"


def _check_network(params: Params, path: Path) -> None:
    try:
        classes = params.data.classes()
    except JoslimError as error:
        text = with_keys(str(error))
        key = "" if text.startswith("data.path") else "data.path: "
        raise ConfigError(f"{path}: {key}{text}") from error
    try:
        network = params.network_spec(len(classes)).build(params.network.weights)
        image = torch.zeros(2, params.data.channels, *(params.data.image_size,) * 2)
        private_parameters(network.model, params.finetune.private, image)
    except JoslimError as error:
        raise ConfigError(f"{path}: network: {with_keys(str(error))}") from error
    device_latencies(network)
    if params.search.objective.startswith("latency@"):
        _profiled(params.search.objective, network, f"{path}: search.objective")
    for limit in params.limits():
        _check_limit(f"{path}: search.limits", limit, *_costs(limit, network, params))
    for name in params.budgets:
        for limit in params.budget(name):
            full, smallest = _costs(limit, network, params)
            # A latency is another each time, and ONNX Runtime's, in which the front is measured
            # where there is one, far below PyTorch's; what is in doubt is decided then.
            latency_doubt = 0.02 if has_onnx_runtime() else 0.5
            doubt = 1.0 if limit.quantity.name in costs.COSTS else latency_doubt
            _check_limit(f"{path}: budgets.{name}", limit, full, smallest, doubt)


def _costs(limit: Limit, network: SlimmableNetwork, params: Params) -> tuple[float, float]:
    """What the full and the smallest network have of a limited quantity."""
    if limit.quantity.name in costs.COSTS:
        cost = costs.COSTS[limit.quantity.name](network)
        return cost.full, cost.smallest
    if limit.quantity.name != "latency":
        predicted = _profiled(limit.quantity.name, network, "budgets")
        return predicted.full, predicted.smallest
    space = network.space
    ends = {widths: network.extract(widths) for widths in (space.full, space.smallest)}
    size = params.data.image_size
    image = torch.zeros(1, params.data.channels, size, size)
    found = time_models(ends, image, repeats=7)
    return found[space.full].milliseconds, found[space.smallest].milliseconds


def _profiled(quantity: str, network: SlimmableNetwork, key: str) -> Latency:
    """The fitted latency on another device, of which the checkout has a profile."""
    try:
        return device_latency(network, quantity.partition("@")[2]).predicted
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _check_limit(key: str, limit: Limit, full: float, smallest: float, doubt: float = 1.0) -> None:
    if limit.resolve(full) < doubt * smallest:
        show = limit.quantity.format
        raise ConfigError(
            f"{key} is {limit}, but the smallest sub-network costs {show(smallest)} "
            f"({smallest / full:.1%} of the full one's {show(full)}); raise the limit or "
            f"lower network.min_width{limit.hint}"
        )
