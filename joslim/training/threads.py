"""How many CPU threads a network is trained with."""

import torch

from joslim import costs
from joslim.supernet.network import SlimmableNetwork

MACS_PER_THREAD = 80e6
"""Work of an average operation that earns each thread.

A cautious choice: on two idle cores a second thread gains 1.4 × at 45 million multiply-accumulates,
1.5 × at 180 million and 1.8 × at 450 million (``python -m benchmarks.threads``); where anything
else runs on them, small operations gain nothing, as the threads wait for each other.
"""


def use_suitable_threads(network: SlimmableNetwork, batch_size: int) -> int:
    """Let PyTorch use no more threads than the work of ``network`` in training earns.

    Decided by counting, not by measuring, so that results do not depend on the machine's load; and
    small networks are trained alike on machines with any number of cores.

    Returns:
        Their number; at most as many as PyTorch used before.
    """
    macs_per_operation = batch_size * costs.macs(network).full / len(network.trace.macs)
    worthwhile = max(1, int(macs_per_operation / MACS_PER_THREAD))
    torch.set_num_threads(min(torch.get_num_threads(), worthwhile))
    return torch.get_num_threads()
