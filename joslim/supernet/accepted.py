"""Modules that cannot be made slimmable as they are, and what to pass instead."""

from torch import jit, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from joslim.errors import TracingError

_COMPUTED_BY_HOOKS = {
    BasePruningMethod: ("a mask of torch.nn.utils.prune", "prune.remove(module, name)"),
    WeightNorm: ("torch.nn.utils.weight_norm", "torch.nn.utils.remove_weight_norm(module)"),
    SpectralNorm: ("torch.nn.utils.spectral_norm", "torch.nn.utils.remove_spectral_norm(module)"),
}


def check_accepted(model: object) -> None:
    """Refuse what hides a network's own modules or weights.

    Raises:
        TracingError: Naming the module, and what to pass instead.
    """
    if not isinstance(model, nn.Module):
        raise TracingError(f"the network is a {type(model).__name__}; expected a torch.nn.Module")
    for path, module in model.named_modules():
        where = f"'{path}'" if path else "the network"
        kind = type(module).__name__
        if isinstance(module, DataParallel | DistributedDataParallel):
            raise TracingError(
                f"{where} is in {kind}; pass the module inside of it (.module), and wrap the "
                "slimmable network instead"
            )
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise TracingError(
                f"{where} is compiled for one width; pass it without torch.compile, and compile "
                "what extract(widths) gives"
            )
        if isinstance(module, jit.ScriptModule):
            raise TracingError(
                f"{where} is a {kind}, whose code cannot be traced; pass the module that "
                "torch.jit was given"
            )
        for hook in module._forward_pre_hooks.values():
            for method, (what, remedy) in _COMPUTED_BY_HOOKS.items():
                if isinstance(hook, method):
                    raise TracingError(
                        f"{where} ({kind}) computes its weights anew in each pass, by {what}; "
                        f"make them plain parameters first: {remedy}"
                    )
