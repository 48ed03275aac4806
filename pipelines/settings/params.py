"""The sections of ``params.yaml`` as a frozen configuration; read without PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from joslim.budgets import QUANTITIES, Budget, parse_limits, quantity
from joslim.colours import is_colour
from joslim.config import TrainingConfig
from joslim.errors import BudgetError, ConfigError
from pipelines.settings.own_code import named
from pipelines.settings.register_params import RegisterParams

if TYPE_CHECKING:
    from joslim.supernet.spec import NetworkSpec


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
    background: str = "white"
    """The colour that transparent pixels are laid on, by name or as ``#rrggbb``."""

    @field_validator("background", mode="before")
    @classmethod
    def _is_colour(cls, background: object) -> object:
        if not isinstance(background, str) or not is_colour(background):
            raise ValueError(
                f"data.background is {background!r}; expected a colour, as white, or in quotes as "
                "'#ffffff'"
            )
        return background


class NetworkParams(_Section):
    """The supernet: a name and weights as `joslim.networks.create` takes them."""

    name: str
    weights: str | None
    min_width: float = Field(gt=0, le=1)
    divisor: int | None = Field(ge=1)
    leaves: tuple[str, ...]

    @property
    def own_code(self) -> tuple[str, ...]:
        """What of it is the user's own code, as ``allow`` of the library's loaders."""
        return named(self.name, self.leaves)


class SearchParams(_Section):
    """How widths are drawn."""

    strategy: Literal["joslim", "slim", "two-stage", "tpe"]
    objective: str
    num_initial: int = Field(ge=2)
    limits: dict[str, Any]

    @field_validator("objective")
    @classmethod
    def _is_known(cls, objective: str) -> str:
        try:
            return quantity(objective).name
        except BudgetError as error:
            raise ValueError(
                f"search.objective is '{objective}'; expected macs, params, memory, latency, or "
                "latency@NAME of a profile"
            ) from error


class ExecutionParams(_Section):
    """How stage ``train`` runs, without any effect on its results but rounding."""

    processes: int = Field(ge=1)
    checkpoint_steps: int = Field(ge=1)
    checkpoint_minutes: float = Field(gt=0)


class FrontParams(_Section):
    """Which width configurations are measured after training."""

    num_proposals: int = Field(ge=2)
    calibration_images: int = Field(ge=2)


class FinetuneParams(_Section):
    """How the chosen sub-networks are trained on."""

    private: Literal["nothing", "norms", "norms-and-classifier", "all"]
    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0)
    distillation_weight: float = Field(ge=0, le=1)


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
                raise ValueError(f"tune.{name} is [{low:g}, {high:g}]; expected lowest < highest")
            if low < 0 or (low == 0 and name != "distillation_weight"):
                raise ValueError(f"tune.{name} starts at {low:g}; expected more than 0")
        return self


BudgetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=30)]


class Params(_Section):
    """All of ``params.yaml``; its comments say what each value means."""

    seed: int = Field(ge=0)
    data: DataParams
    network: NetworkParams
    search: SearchParams
    training: TrainingConfig
    execution: ExecutionParams
    front: FrontParams
    finetune: FinetuneParams
    budgets: dict[BudgetName, dict[str, Any]] = Field(min_length=1)
    # Pydantic has a `register` of its own.
    registration: RegisterParams = Field(RegisterParams(), alias="register")
    tune: TuneParams

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> "Params":
        if self.training.batch_size % self.execution.processes:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size}; expected a multiple of "
                f"execution.processes, {self.execution.processes}"
            )
        return self

    @model_validator(mode="after")
    def _teacher_is_there(self) -> "Params":
        if self.finetune.distillation_weight and self.search.limits:
            raise ValueError(
                f"finetune.distillation_weight is {self.finetune.distillation_weight:g}, but the "
                "full network, which teaches, may be outside of search.limits; expected 0"
            )
        return self

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
            if limit.quantity.is_measured:
                exact = ", ".join(q.name for q in QUANTITIES.values() if not q.is_measured)
                raise ConfigError(f"search.limits is {limit}; expected {exact}")
        return limits

    def network_spec(
        self, num_classes: int, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()
    ) -> "NetworkSpec":
        """The supernet's spec; mean and std may be left out if no image will pass through it."""
        from joslim.supernet.spec import NetworkSpec

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
