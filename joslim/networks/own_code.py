"""Code by name, ``package.module:name``: a user's own factories and classes of modules.

To import a module runs it. So a name that comes out of a file is imported only if the caller has
said that it may be.
"""

import importlib
from collections.abc import Collection
from typing import Any

from torch import nn

from joslim.errors import NetworkError

LIBRARIES = ("torchvision", "timm")
"""Before the colon of a name, they stand for a library's own classifiers, not for a module."""


def is_own(name: str) -> bool:
    """Whether a network's name is that of a factory, and not one that this project knows."""
    source, colon, _ = name.partition(":")
    return bool(colon) and source not in LIBRARIES


def require_allowed(name: str, allow: Collection[str]) -> None:
    """Refuse ``name``, unless the caller has allowed it.

    Args:
        name: As ``package.module:factory``.
        allow: Each a package or module, which stands for all that is in it, or such a name, which
            stands for itself alone.

    Raises:
        NetworkError: If none of ``allow`` covers it.
    """
    if isinstance(allow, str):
        raise NetworkError(f"allow is '{allow}'; expected several names, as allow=('{allow}',)")
    module = name.partition(":")[0]
    if not any(one in (name, module) or module.startswith(f"{one}.") for one in allow):
        raise NetworkError(
            f"'{name}' is no network of joslim, torchvision or timm, but code that would be "
            f"imported and run; if you trust it, allow it by name: allow=('{module}',)"
        )


def module_type(name: str) -> type[nn.Module]:
    """The class called ``package.module:Class``.

    Raises:
        NetworkError: If it cannot be imported, or is no module's.
    """
    found = imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise NetworkError(f"'{name}' is {found!r}; expected a class of nn.Module")
    return found


def imported(name: str) -> Any:
    """What is called ``package.module:name``; importing its module runs code.

    Raises:
        NetworkError: If it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does
        raise NetworkError(
            f"'{name}' cannot be imported: {error}; expected package.module:name, installed or in "
            "the working directory"
        ) from error
