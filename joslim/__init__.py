"""Train one network once, ship the best sub-network for every budget."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joslim import costs as costs
    from joslim import data as data
    from joslim import evaluation as evaluation
    from joslim import finetuning as finetuning
    from joslim import front as front
    from joslim import networks as networks
    from joslim import pareto as pareto
    from joslim import search as search
    from joslim import supernet as supernet
    from joslim import tracing as tracing
    from joslim import training as training
    from joslim.supernet.loading import load as load
    from joslim.supernet.network import SlimmableNetwork as SlimmableNetwork
    from joslim.supernet.network import slimmable as slimmable
    from joslim.supernet.slimmable_model import SlimmableModel as SlimmableModel
    from joslim.supernet.spec import NetworkSpec as NetworkSpec

_FROM = {
    "NetworkSpec": "supernet.spec",
    "SlimmableNetwork": "supernet.network",
    "SlimmableModel": "supernet.slimmable_model",
    "load": "supernet.loading",
    "slimmable": "supernet.network",
}
_MODULES = (
    "costs", "data", "evaluation", "finetuning", "front", "networks", "pareto", "search",
    "supernet", "tracing", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for: `import joslim` alone does not load PyTorch."""
    if name in _FROM:
        return getattr(importlib.import_module(f"joslim.{_FROM[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"joslim.{name}")
    raise AttributeError(f"module 'joslim' has no attribute '{name}'")
