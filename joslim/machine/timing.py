"""How long networks take on this machine's processor."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from joslim.machine.threads import single_threaded
from joslim.machine.turns import Key, Timing, time_in_turns


@torch.no_grad()
def time_models(
    models: Mapping[Key, nn.Module],
    example: Tensor,
    costs: Mapping[Key, Sequence[float]] | None = None,
    *,
    repeats: int = 30,
) -> dict[Key, Timing]:
    """Time one forward pass of each model in eval mode on one CPU thread, in turns.

    One thread, so that the number does not depend on what else the process is allowed to use.
    Arguments are those of `time_in_turns`.
    """
    calls = {key: partial(model.eval(), example) for key, model in models.items()}
    with single_threaded():
        return time_in_turns(calls, costs, repeats=repeats)
