"""Train one network once, ship the best sub-network for every budget."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joslim import costs as costs
    from joslim import networks as networks
    from joslim import pareto as pareto
    from joslim import search as search
    from joslim import training as training
    from joslim.slimmable_network import SlimmableNetwork as SlimmableNetwork
    from joslim.slimmable_network import slimmable as slimmable
    from joslim.storage import load as load

_FROM = {
    "SlimmableNetwork": "slimmable_network",
    "slimmable": "slimmable_network",
    "load": "storage",
}
_MODULES = ("costs", "networks", "pareto", "search", "training")


def __getattr__(name: str) -> Any:
    """Import what is asked for: `import joslim` alone does not load PyTorch."""
    if name in _FROM:
        return getattr(importlib.import_module(f"joslim.{_FROM[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"joslim.{name}")
    raise AttributeError(f"module 'joslim' has no attribute '{name}'")
