"""Which modules are replaced before tracing, so that heads and the embedding can be followed.

The network that `joslim.slimmable` works on then differs from the stock module in these modules'
code alone, and shares all parameters and buffers with it.
"""

import copy
from itertools import chain
from typing import Any

from torch import nn
from torchvision.models import maxvit, swin_transformer, vision_transformer

from joslim import attention

REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: attention.SelfAttention,
    vision_transformer.VisionTransformer: attention.VisionTransformer,
    swin_transformer.ShiftedWindowAttention: attention.WindowAttention,
    swin_transformer.ShiftedWindowAttentionV2: attention.WindowAttentionV2,
    swin_transformer.PatchMerging: attention.PatchMerging,
    swin_transformer.PatchMergingV2: attention.PatchMergingV2,
    maxvit.RelativePositionalMultiHeadAttention: attention.RelativeAttention,
}
"""What takes the place of modules of exactly that type; subclasses may do something else."""


def lowered(model: nn.Module, leaves: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """``model``, or a copy in which `REPLACEMENTS` stand; with the same parameters and buffers.

    Args:
        model: Left as it is.
        leaves: Modules that are not replaced.
    """
    if not any(_is_replaced(module, leaves) for module in model.modules()):
        return model
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, shared)
    for module in twin.modules():
        if _is_replaced(module, leaves):
            _replace_(module)
    return twin


def _is_replaced(module: nn.Module, leaves: tuple[type[nn.Module], ...]) -> bool:
    if type(module) not in REPLACEMENTS or isinstance(module, leaves):
        return False
    is_exact = getattr(REPLACEMENTS[type(module)], "is_exact", None)
    return is_exact is None or is_exact(module)


def _replace_(module: Any) -> None:
    replacement = REPLACEMENTS[type(module)]
    if issubclass(replacement, attention.WindowAttention):
        module.head_dim = module.qkv.out_features // (3 * module.num_heads)
    module.__class__ = replacement
