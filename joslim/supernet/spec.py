"""What decides a supernet: enough to build it again."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from joslim import networks
from joslim.errors import CheckpointError, NetworkError
from joslim.supernet.network import SlimmableNetwork, slimmable
from joslim.tracing.rewrites import make_traceable

MOST_CLASSES = 1_000_000
"""Length of the output that a network may have."""

MOST_VALUES = 2**26
"""Numbers that make up an image: 4096 × 4096 pixels of four channels."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides a supernet's architecture.

    Attributes:
        network: A name for `joslim.networks.create`, or any name of a module of your own.
        num_classes: Length of the output.
        in_channels: Channels of an image.
        image_size: Height and width of an image, in pixels.
        mean: Per image channel, of images in [0, 1].
        std: Likewise.
        min_width: Smallest width multiplier of the search.
        divisor: Step of the channel counts; None if decided per group.
        leaves: Modules that are not looked into, as ``package.module:Class``.
    """

    network: str
    num_classes: int
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_width: float = 0.42
    divisor: int | None = None
    leaves: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `NetworkError` for sizes and numbers that no network can have."""
        if not 1 <= self.num_classes <= MOST_CLASSES:
            raise NetworkError(f"num_classes is {self.num_classes}; expected 1 to {MOST_CLASSES:,}")
        for name in ("in_channels", "image_size"):
            if getattr(self, name) < 1:
                raise NetworkError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.in_channels * self.image_size**2 > MOST_VALUES:
            raise NetworkError(
                f"image_size is {self.image_size} with {self.in_channels} in_channels; expected "
                f"at most {MOST_VALUES:,} numbers in an image"
            )
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) != self.in_channels or not all(map(math.isfinite, numbers)):
                raise NetworkError(
                    f"{name} is {numbers}; expected {self.in_channels} finite, one per channel"
                )
        if min(self.std) <= 0:
            raise NetworkError(f"std is {self.std}; expected more than 0")

    def build(
        self,
        weights: str | None = None,
        *,
        model: nn.Module | None = None,
        allow: Collection[str] = (),
    ) -> SlimmableNetwork:
        """Build the supernet, which takes images in [0, 1].

        Args:
            weights: Pretrained ones, as `joslim.networks.create` takes them; None: fresh ones.
            model: Your own stock module, where ``network`` is no name for one.
            allow: Own code that may be imported where ``network`` or ``leaves`` name it: packages
                and modules with all that is in them, as ``mynet``, or single names, as
                ``mynet:small_net``.

        Raises:
            NetworkError: If it cannot be made, names code that is not allowed, or does not give
                one logit per class.
            TracingError: If its channel groups cannot be found.
        """
        if model is not None and weights is not None:
            raise NetworkError(f"weights is '{weights}', but the model is given with its own")
        example = torch.zeros(2, self.in_channels, self.image_size, self.image_size)
        network = slimmable(
            self._classifier(weights, model, allow),
            example,
            min_width=self.min_width,
            divisor=self.divisor,
            leaves=self._leaf_types(allow),
        )
        with torch.no_grad():
            outputs = tuple(network.eval()(example).shape)
        if outputs != (2, self.num_classes):
            raise NetworkError(
                f"network '{self.network}' gives {outputs} for 2 images; expected "
                f"(2, {self.num_classes}), a logit for each class"
            )
        return network.train()

    def build_dense(
        self, model: nn.Module | None = None, *, allow: Collection[str] = ()
    ) -> nn.Module:
        """The full network as a dense module with fresh weights; else as `build`, untraced."""
        return make_traceable(self._classifier(None, model, allow), self._leaf_types(allow))

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "NetworkSpec":
        """The spec that `to_json` gave as JSON values.

        Raises:
            CheckpointError: If a field is missing, unknown, or of another type.
        """
        unknown = content.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise CheckpointError(
                f"it is not a network's spec: unknown {', '.join(sorted(unknown))}"
            )
        try:
            return TypeAdapter(cls).validate_json(json.dumps(dict(content)), strict=True)
        except ValidationError as error:
            reason = first_reason(error)
            raise CheckpointError(f"it is not a network's spec: {reason}") from error

    def _classifier(
        self, weights: str | None, model: nn.Module | None, allow: Collection[str]
    ) -> nn.Module:
        if model is None:
            if networks.is_own(self.network):
                networks.require_allowed(self.network, allow)
            model = networks.create(self.network, self.num_classes, self.in_channels, weights)
        return Classifier(model, self.mean, self.std)

    def _leaf_types(self, allow: Collection[str]) -> tuple[type[nn.Module], ...]:
        for name in self.leaves:
            networks.require_allowed(name, allow)
        return tuple(map(networks.module_type, self.leaves))


def first_reason(error: ValidationError) -> str:
    """The first key that is wrong, and why."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason


class Classifier(nn.Module):
    """A network behind the normalisation that it was trained with: images in [0, 1] to logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)
