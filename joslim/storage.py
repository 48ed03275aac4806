"""Networks on disk: safetensors beside a JSON spec, never a pickle.

A folder holds ``weights.safetensors`` and ``spec.json``. The spec says how to build the network
again, at which widths it stands, and where it comes from, so that it can be loaded anywhere and
trained on.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim import networks
from joslim.errors import CheckpointError, NetworkError
from joslim.slimmable_network import SlimmableNetwork, slimmable
from joslim.widths import Widths

WEIGHTS, SPEC = "weights.safetensors", "spec.json"


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides a supernet's architecture.

    Attributes:
        network: A name for `joslim.networks.create`.
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
    min_width: float
    divisor: int | None
    leaves: tuple[str, ...] = ()

    def build(self, weights: str | None = None) -> SlimmableNetwork:
        """The supernet with fresh or pretrained ``weights``; takes images in [0, 1].

        Raises:
            NetworkError: If it cannot be made, or does not give one logit per class.
            TracingError: If its channel groups cannot be found.
        """
        model = networks.create(self.network, self.num_classes, self.in_channels, weights)
        example = torch.zeros(2, self.in_channels, self.image_size, self.image_size)
        network = slimmable(
            Classifier(model, self.mean, self.std),
            example,
            min_width=self.min_width,
            divisor=self.divisor,
            leaves=tuple(map(networks.module_type, self.leaves)),
        )
        with torch.no_grad():
            outputs = tuple(network.eval()(example).shape)
        if outputs != (2, self.num_classes):
            raise NetworkError(
                f"network '{self.network}' gives {outputs} for 2 images; expected "
                f"(2, {self.num_classes}), a logit for each class"
            )
        return network.train()


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


def save_supernet(path: Path, network: SlimmableNetwork, spec: NetworkSpec) -> None:
    """Save all shared weights."""
    _save(path, network.model, spec, network.space.full, {"kind": "supernet"})


def load_supernet(path: Path) -> tuple[SlimmableNetwork, NetworkSpec]:
    """Load what `save_supernet` saved."""
    spec, _ = load_spec(path)
    network = spec.build()
    _load_weights(network.model, path)
    return network, spec


def save_subnetwork(
    path: Path, model: nn.Module, spec: NetworkSpec, widths: Widths, provenance: Mapping[str, Any]
) -> None:
    """Save a dense sub-network, as extracted at ``widths``, with JSON-able ``provenance``."""
    _save(path, model, spec, widths, provenance)


def load(path: str | Path) -> nn.Module:
    """Load a sub-network that the pipeline saved.

    Returns:
        A dense module in eval mode: images in [0, 1], ``(batch, channels, height, width)``, to
        logits ``(batch, classes)``.

    Raises:
        CheckpointError: If a file is missing or damaged, or the two do not belong together.
    """
    spec, widths = load_spec(Path(path))
    model = spec.build().extract(widths)
    _load_weights(model, Path(path))
    return model.eval()


def read_spec(path: Path) -> dict[str, Any]:
    """The JSON spec of a saved network."""
    file = path / SPEC
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _save(
    path: Path, model: nn.Module, spec: NetworkSpec, widths: Widths, provenance: Mapping[str, Any]
) -> None:
    path.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path / WEIGHTS)
    content = {**asdict(spec), "widths": widths, "provenance": provenance}
    (path / SPEC).write_text(json.dumps(content, indent=1) + "\n")


def load_spec(path: Path) -> tuple[NetworkSpec, Widths]:
    """The supernet's spec of a saved network, and the widths at which this one stands."""
    content = read_spec(path)
    widths = content.pop("widths", ())
    content.pop("provenance", None)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    try:
        spec = NetworkSpec(**fields)
    except TypeError as error:
        raise CheckpointError(f"{path / SPEC} is not a network's spec: {error}") from error
    return spec, tuple(widths)


def _load_weights(model: nn.Module, path: Path) -> None:
    file = path / WEIGHTS
    try:
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} does not fit {path / SPEC}: {error}") from error
