"""Modules that are replaced before tracing, so that heads and the embedding can be followed.

The network that `joslim.slimmable` works on then differs from the stock module in these modules'
code alone, and shares all parameters and buffers with it.
"""

from torch import nn
from torchvision.models import maxvit, swin_transformer, vision_transformer

from joslim.tracing.rewrites import attention
from joslim.twins import twin

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


def make_traceable(model: nn.Module, leaves: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """``model``, or a twin of it in which `REPLACEMENTS` stand, for `torch.fx` to trace.

    Args:
        model: Left as it is.
        leaves: Modules that are not replaced.
    """

    def replacement(module: nn.Module) -> type[nn.Module] | None:
        kind = REPLACEMENTS.get(type(module))
        if kind is None or isinstance(module, leaves):
            return None
        is_exact = getattr(kind, "is_exact", None)
        return kind if is_exact is None or is_exact(module) else None

    return twin(model, replacement)
