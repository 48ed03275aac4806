"""Classifiers of torchvision and timm, by the names that these libraries give them."""

import importlib
from difflib import get_close_matches
from types import ModuleType

import torchvision
from torch import nn

from joslim.errors import NetworkError
from joslim.networks.pretrained import FILES, load_weights_

HAVE_AUXILIARY_HEADS = ("googlenet", "inception_v3")
"""Built without these heads, which run in training only and take no part in the product."""


def torchvision_model(
    name: str, num_classes: int, in_channels: int, weights: str | None
) -> nn.Module:
    """A classifier of torchvision; arguments and errors as of `joslim.networks.create`."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise _no_such("torchvision", name, known, "torchvision.models.list_models() names all")
    if in_channels != 3:
        raise NetworkError(
            f"in_channels is {in_channels}; expected 3, as torchvision:{name} takes colour images"
        )
    options = {}
    if name in HAVE_AUXILIARY_HEADS:
        # Their pretrained weights expect images that the network itself normalises once more.
        transform_input = weights is not None
        options = {"aux_logits": False, "init_weights": True, "transform_input": transform_input}
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def timm_model(name: str, num_classes: int, in_channels: int, weights: str | None) -> nn.Module:
    """A model of timm; arguments and errors as of `joslim.networks.create`."""
    timm = _import_timm(name)
    known = timm.list_models()
    if ":" in name:  # which timm itself would fetch from a hub, or read from a folder
        raise NetworkError(
            f"network is 'timm:{name}'; expected a name of timm's own, without a colon: "
            "timm.list_models() names all"
        )
    if name not in known:
        raise _no_such("timm", name, known, "timm.list_models() names all")
    options = {"num_classes": num_classes, "in_chans": in_channels}
    if weights is not None and not weights.endswith(FILES):
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
        if weights not in tags:
            raise NetworkError(
                f"timm has no weights '{weights}' for '{name}'; it has {', '.join(tags) or 'none'}"
                f", or give a file ({', '.join(FILES)})"
            )
        try:
            return timm.create_model(f"{name}.{weights}", pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise NetworkError(
                f"weights '{weights}' for 'timm:{name}' cannot be fetched: {error}"
            ) from error
    model = timm.create_model(name, pretrained=False, **options)
    if weights is not None:
        load_weights_(model, name, weights)
    return model


def _no_such(source: str, name: str, known: list[str], listing: str) -> NetworkError:
    close = get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"the closest are {', '.join(close)}" if close else listing
    return NetworkError(f"{source} has no network '{name}'; {hint}")


def _import_timm(name: str) -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise NetworkError(
            f"network 'timm:{name}' needs timm; install it: pip install timm"
        ) from error
