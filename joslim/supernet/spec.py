"""What decides a supernet: enough to build it again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from joslim import networks
from joslim.errors import CheckpointError, NetworkError
from joslim.supernet.network import SlimmableNetwork, slimmable
from joslim.tracing.rewrites import make_traceable


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

    def build(
        self, weights: str | None = None, *, model: nn.Module | None = None
    ) -> SlimmableNetwork:
        """Build the supernet, which takes images in [0, 1].

        Args:
            weights: Pretrained ones, as `joslim.networks.create` takes them; None: fresh ones.
            model: Your own stock module, where ``network`` is no name for one.

        Raises:
            NetworkError: If it cannot be made, or does not give one logit per class.
            TracingError: If its channel groups cannot be found.
        """
        if model is not None and weights is not None:
            raise NetworkError(f"weights is '{weights}', but the model is given with its own")
        example = torch.zeros(2, self.in_channels, self.image_size, self.image_size)
        network = slimmable(
            self._classifier(weights, model),
            example,
            min_width=self.min_width,
            divisor=self.divisor,
            leaves=self._leaves,
        )
        with torch.no_grad():
            outputs = tuple(network.eval()(example).shape)
        if outputs != (2, self.num_classes):
            raise NetworkError(
                f"network '{self.network}' gives {outputs} for 2 images; expected "
                f"(2, {self.num_classes}), a logit for each class"
            )
        return network.train()

    def build_dense(self, model: nn.Module | None = None) -> nn.Module:
        """The full network as a dense module with fresh weights; it is not traced."""
        return make_traceable(self._classifier(None, model), self._leaves)

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
            return TypeAdapter(cls).validate_python(dict(content))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise CheckpointError(f"it is not a network's spec: {name}: {first['msg']}") from error

    def _classifier(self, weights: str | None, model: nn.Module | None) -> nn.Module:
        if model is None:
            model = networks.create(self.network, self.num_classes, self.in_channels, weights)
        return Classifier(model, self.mean, self.std)

    @property
    def _leaves(self) -> tuple[type[nn.Module], ...]:
        return tuple(map(networks.module_type, self.leaves))


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
