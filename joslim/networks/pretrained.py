"""Weights to start from: torchvision's by name, or a local file; the output layer is made anew."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from urllib.error import URLError

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from joslim.errors import NetworkError

FILES = (".safetensors", ".pt", ".pth")

_EXPECTED = "expected tensors by name, as of a module's state_dict()"


def load_weights_(model: nn.Module, network: str, weights: str) -> None:
    """Load ``weights`` into ``model``, but for an output layer with another number of classes.

    Args:
        model: Changed in place.
        network: Its name; torchvision's, if ``weights`` are not a file.
        weights: A name such as ``IMAGENET1K_V1`` or ``DEFAULT``, fetched over the network once, or
            a file of named tensors: ``.safetensors``, ``.pt`` or ``.pth``.

    Raises:
        NetworkError: If there are no such weights, or they belong to another network.
    """
    is_file = weights.endswith(FILES)
    given = _from_file(Path(weights)) if is_file else _from_torchvision(network, weights)
    own = model.state_dict()
    # Old files do not count the batches, and only batch norm without momentum reads that.
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    other = [name for name in own if name in given and given[name].shape != own[name].shape]
    layers = {name.rpartition(".")[0] for name in other}
    # Another number of classes changes rows; another number of input channels is no output layer.
    is_output = all(given[name].shape[1:] == own[name].shape[1:] for name in other)
    if missing or len(layers) > 1 or not is_output:
        raise NetworkError(
            f"weights '{weights}' do not fit '{network}': {', '.join((missing + other)[:3])}, … "
            "are missing or of another shape; only the output layer's may be"
        )
    fitting = {name: given[name] for name in own if name in given and name not in other}
    for name, tensor in fitting.items():
        _require_numbers(tensor, own[name], f"weights '{weights}': '{name}'")
    model.load_state_dict(fitting, strict=False)


def _from_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        given = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's own depends on which byte is wrong
        reason = shorten(str(error) or type(error).__name__, 300)
        raise NetworkError(f"weights '{path}' cannot be read: {reason}") from error
    if not isinstance(given, Mapping):
        raise NetworkError(f"weights '{path}' is a {type(given).__name__}; {_EXPECTED}")
    for name, tensor in given.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise NetworkError(
                f"weights '{path}': {name!r} is a {type(tensor).__name__}; {_EXPECTED}"
            )
    return given


def _require_numbers(given: Tensor, own: Tensor, what: str) -> None:
    """Refuse numbers that would be other ones in the network, or that are none."""
    kinds = given.is_floating_point(), own.is_floating_point()
    if kinds != (True, True) and given.dtype != own.dtype:
        raise NetworkError(f"{what} is of {given.dtype}; expected {own.dtype}")
    if given.is_floating_point() and not given.isfinite().all():
        raise NetworkError(f"{what} holds numbers that are not finite")


def _from_torchvision(network: str, weights: str) -> Mapping[str, Tensor]:
    known = torchvision.models.get_model_weights(network)
    if weights not in known.__members__:
        raise NetworkError(
            f"torchvision has no weights '{weights}' for '{network}'; it has "
            f"{', '.join(known.__members__)}, or give a file ({', '.join(FILES)})"
        )
    try:
        # Fetched here, where the file must hold nothing but tensors; the builder, which knows how
        # to rename those of old files, then finds it on disk.
        known[weights].get_state_dict(progress=False, check_hash=True, weights_only=True)
        built = torchvision.models.get_model(network, weights=known[weights], progress=False)
    except (URLError, RuntimeError, UnpicklingError) as error:
        source = known[weights].url
        raise NetworkError(
            f"weights '{weights}' cannot be fetched from {source}: {error}; give a file "
            f"({', '.join(FILES)}) instead"
        ) from error
    return built.state_dict()
