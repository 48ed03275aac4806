"""Loading whatever a folder holds."""

from pathlib import Path

from torch import nn

from joslim.supernet.artifact import is_slimmable, load_slimmable
from joslim.supernet.slimmable_model import SlimmableModel
from joslim.supernet.storage import load_subnetwork


def load(path: str | Path, model: nn.Module | None = None) -> nn.Module | SlimmableModel:
    """Load a saved sub-network as a module, or a slimmable network for all its widths.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; it is changed.

    Returns:
        For a sub-network, or a supernet, a dense module in eval mode: images in [0, 1],
        ``(batch, channels, height, width)``, to logits ``(batch, classes)``. For a slimmable
        network a `SlimmableModel`, whose ``at`` gives such modules.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
    """
    path = Path(path)
    return load_slimmable(path, model) if is_slimmable(path) else load_subnetwork(path, model).model
