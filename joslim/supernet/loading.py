"""Loading whatever a folder holds."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from joslim.supernet.artifact import is_slimmable, read_slimmable
from joslim.supernet.saved_spec import read_spec
from joslim.supernet.slimmable_model import SlimmableModel
from joslim.supernet.storage import read_subnetwork


def load(
    path: str | Path, model: nn.Module | None = None, *, allow: Collection[str] = ()
) -> nn.Module | SlimmableModel:
    """Load a saved sub-network as a module, or a slimmable network for all its widths.

    Networks of this project, torchvision and timm are built by the name in its spec. Any other name
    is code that would be imported and run, so it is refused unless it is allowed.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; it is changed.
        allow: Own code that its spec may name as the network or a leaf. An entry is a package or
            module, as ``mynet``, for all that is in it, or a single name, as ``mynet:small_net``.

    Returns:
        For a sub-network, or a supernet, a dense module in eval mode: images in [0, 1],
        ``(batch, channels, height, width)``, to logits ``(batch, classes)``. For a slimmable
        network a `SlimmableModel`, whose ``at`` gives such modules.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
        NetworkError: If the network cannot be built, or is code that is not allowed.
    """
    path = Path(path)
    saved = read_spec(path)
    if is_slimmable(saved):
        return read_slimmable(path, saved, model, allow)
    return read_subnetwork(path, saved, model, allow).model
