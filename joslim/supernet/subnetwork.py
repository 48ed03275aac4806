"""A dense network that was taken out of a supernet."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.spec import NetworkSpec
from joslim.widths import Widths


@dataclass(frozen=True)
class Subnetwork:
    """A dense network that was taken out of a supernet, with all that is saved with it.

    Attributes:
        model: Images in [0, 1], ``(batch, channels, height, width)``, to logits.
        spec: The supernet's.
        widths: Channels by the name of each channel group.
        attributes: What layers say about their channels, by ``PATH.NAME``, as
            ``network.conv.out_channels``.
        architecture: Digest of the names and shapes of the full network's tensors.
        provenance: Where it comes from, in JSON values.
    """

    model: nn.Module
    spec: NetworkSpec
    widths: Mapping[str, int]
    attributes: Mapping[str, int | Sequence[int]]
    architecture: str
    provenance: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        network: SlimmableNetwork,
        spec: NetworkSpec,
        widths: Widths,
        model: nn.Module | None = None,
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> "Subnetwork":
        """The sub-network at ``widths``, extracted now, or ``model`` if it was before."""
        widths = network.space.check(widths)
        return cls(
            network.extract(widths) if model is None else model,
            spec,
            widths_by_name(network, widths),
            {".".join(key): value for key, value in network.attributes_at(widths).items()},
            architecture(network.model),
            provenance or {},
        )


def architecture(model: nn.Module) -> str:
    """Digest of the names and shapes of a network's parameters and buffers."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def widths_by_name(network: SlimmableNetwork, widths: Widths) -> dict[str, int]:
    """Channel counts by the names of the channel groups."""
    groups = network.space.groups
    named = {group.name: width for group, width in zip(groups, widths, strict=True)}
    assert len(named) == len(groups), "channel groups share a name"
    return named
