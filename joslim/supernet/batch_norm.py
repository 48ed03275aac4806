"""Batch-norm statistics for networks whose weights were trained at other widths."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.modes import in_mode


@contextmanager
def batch_statistics(model: nn.Module, *, track: bool = False) -> Iterator[None]:
    """Within this context batch norm uses each batch's own statistics; all else is in eval mode.

    The running statistics stay untouched unless ``track``.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    try:
        with in_mode(model, training=False):
            for norm in norms:
                norm.train()
                norm.track_running_stats = track
            yield
    finally:
        for norm, value in zip(norms, tracked, strict=True):
            norm.track_running_stats = value


def even_batch(num_images: int, most: int) -> int:
    """The batch size, at most ``most``, that leaves no last batch much smaller than the others."""
    return -(-num_images // -(-num_images // most))


@torch.no_grad()
def recalibrate_batchnorm(models: Sequence[nn.Module], batches: Iterable[Tensor]) -> None:
    """Replace running statistics by their plain average over ``batches``, in place.

    Args:
        models: Dense networks, recalibrated in one pass over the data; left in eval mode, their
            weights unchanged.
        batches: Images of the training split, ``(batch, channels, height, width)`` each. Every
            batch counts alike: `even_batch` gives sizes by which every image does, too.

    Source: Yu and Huang, Universally Slimmable Networks, 2019, section 3.4.
    """
    all_models = nn.ModuleList(models)
    norms = [module for module in all_models.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with batch_statistics(all_models, track=True):
        for images in batches:
            for model in models:
                model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    all_models.eval()
