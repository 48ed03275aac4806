"""``params.yaml`` as a frozen, checked configuration: the only source of values."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from joslim import costs, data
from joslim.errors import BudgetError, ConfigError, JoslimError
from joslim.evaluation import latencies_ms
from joslim.slimmable_network import SlimmableNetwork
from joslim.storage import NetworkSpec
from joslim.training_config import TrainingConfig
from pipelines import paths
from pipelines.budgets import Budget, Limit, parse_limits


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(_Section):
    """Where images come from and how they are split."""

    source: Literal["fashion-mnist", "cifar10", "cifar100", "folder", "shards"]
    path: Path | None
    channels: Literal[1, 3]
    image_size: int = Field(ge=8)
    val_fraction: float = Field(gt=0, le=0.5)
    test_fraction: float = Field(gt=0, le=0.5)

    def classes(self) -> tuple[str, ...]:
        """Class names, known without reading an image."""
        return data.classes(self.source, self.path)


class NetworkParams(_Section):
    """The supernet: a name and weights as `joslim.networks.create` takes them."""

    name: str
    weights: str | None
    min_width: float = Field(gt=0, le=1)
    divisor: int | None = Field(ge=1)
    leaves: tuple[str, ...]


class SearchParams(_Section):
    """How widths are drawn."""

    strategy: Literal["joslim", "slim", "two-stage", "tpe"]
    objective: Literal["macs", "params", "memory", "latency"]
    num_initial: int = Field(ge=2)
    limits: dict[str, Any]


class FrontParams(_Section):
    """Which width configurations are measured after training."""

    num_proposals: int = Field(ge=2)
    calibration_images: int = Field(ge=2)


class FinetuneParams(_Section):
    """How the chosen sub-networks are trained on."""

    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0)


Range = Annotated[tuple[float, float], Field(description="lowest, highest")]


class TuneParams(_Section):
    """What ``python -m pipelines.tune`` searches."""

    num_trials: int = Field(ge=1)
    epochs: int = Field(ge=1)
    learning_rate: Range
    weight_decay: Range
    distillation_weight: Range
    steps_per_proposal: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ranges_rise(self) -> "TuneParams":
        for name in ("learning_rate", "weight_decay", "distillation_weight"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} is [{low:g}, {high:g}]; expected lowest < highest")
            if low < 0 or (low == 0 and name != "distillation_weight"):
                raise ValueError(f"{name} starts at {low:g}; expected more than 0")
        return self


BudgetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=30)]


class Params(_Section):
    """All of ``params.yaml``; its comments say what each value means."""

    seed: int = Field(ge=0)
    data: DataParams
    network: NetworkParams
    search: SearchParams
    training: TrainingConfig
    front: FrontParams
    finetune: FinetuneParams
    budgets: dict[BudgetName, dict[str, Any]] = Field(min_length=1)
    tune: TuneParams

    def budget(self, name: str) -> Budget:
        """The limits of one budget.

        Raises:
            ConfigError: If there is no such budget, or its limits cannot be understood.
        """
        if name not in self.budgets:
            raise ConfigError(f"budget is '{name}'; expected one of {', '.join(self.budgets)}")
        try:
            return parse_limits(self.budgets[name])
        except BudgetError as error:
            raise ConfigError(f"budgets.{name}: {error}") from error

    def limits(self) -> Budget:
        """What every proposal of the search has to keep to.

        Raises:
            ConfigError: If a limit cannot be understood.
        """
        try:
            limits = parse_limits(self.search.limits) if self.search.limits else ()
        except BudgetError as error:
            raise ConfigError(f"search.limits: {error}") from error
        for limit in limits:
            if limit.quantity.name not in costs.COSTS:
                raise ConfigError(f"search.limits is {limit}; expected {', '.join(costs.COSTS)}")
        return limits

    def network_spec(
        self, num_classes: int, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()
    ) -> NetworkSpec:
        """The supernet's spec; mean and std may be left out if no image will pass through it."""
        return NetworkSpec(
            network=self.network.name,
            num_classes=num_classes,
            in_channels=self.data.channels,
            image_size=self.data.image_size,
            mean=mean or (0.0,) * self.data.channels,
            std=std or (1.0,) * self.data.channels,
            min_width=self.network.min_width,
            divisor=self.network.divisor,
            leaves=self.network.leaves,
        )


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


def _sentences(error: ValidationError) -> str:
    """One line each; a key that is missing may be one that is misspelt."""
    found = error.errors()
    missing = [_key(e) for e in found if e["type"] == "missing"]
    unknown = [_key(e) for e in found if e["type"] == "extra_forbidden"]
    meant = {key: match[0] for key in unknown if (match := get_close_matches(key, missing, n=1))}
    told = [e for e in found if e["type"] != "missing" or _key(e) not in meant.values()]
    return "\n".join(
        _sentence(e) + (f"; did you mean {meant[_key(e)]}?" if _key(e) in meant else "")
        for e in told
    )


def _key(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"])


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
        return f"{key}: {message}"
    return f"{key} is {error['input']!r}; {message[0].lower()}{message[1:]}"


def _check_network(params: Params, path: Path) -> None:
    try:
        classes = params.data.classes()
    except JoslimError as error:
        raise ConfigError(f"{path}: data.path: {error}") from error
    try:
        network = params.network_spec(len(classes)).build(params.network.weights)
    except JoslimError as error:
        raise ConfigError(f"{path}: network: {error}") from error
    for limit in params.limits():
        _check_limit(f"{path}: search.limits", limit, *_costs(limit, network, params))
    for name in params.budgets:
        for limit in params.budget(name):
            full, smallest = _costs(limit, network, params)
            # A latency is another each time; what is in doubt is decided when the front is known.
            doubt = 1.0 if limit.quantity.name in costs.COSTS else 0.5
            _check_limit(f"{path}: budgets.{name}", limit, full, smallest, doubt)


def _costs(limit: Limit, network: SlimmableNetwork, params: Params) -> tuple[float, float]:
    """What the full and the smallest network have of a limited quantity."""
    if limit.quantity.name in costs.COSTS:
        cost = costs.COSTS[limit.quantity.name](network)
        return cost.full, cost.smallest
    ends = [network.extract(network.space.full), network.extract(network.space.smallest)]
    size = params.data.image_size
    image = torch.zeros(1, params.data.channels, size, size)
    full, smallest = latencies_ms(ends, image, repeats=3)
    return full, smallest


def _check_limit(key: str, limit: Limit, full: float, smallest: float, doubt: float = 1.0) -> None:
    if limit.resolve(full) < doubt * smallest:
        show = limit.quantity.format
        raise ConfigError(
            f"{key} is {limit}, but the smallest sub-network costs {show(smallest)} "
            f"({smallest / full:.1%} of the full one's {show(full)}); raise the limit or "
            f"lower network.min_width{limit.hint}"
        )
