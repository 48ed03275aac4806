"""The cost that the search trades against the loss."""

from joslim import costs, latency
from joslim.costs import Cost
from joslim.slimmable_network import SlimmableNetwork
from pipelines import paths
from pipelines.params import Params
from pipelines.stage import console


def objective(params: Params, network: SlimmableNetwork) -> Cost:
    """The cost named by ``search.objective``; latency is measured on this device at first."""
    if params.search.objective != "latency":
        return costs.COSTS[params.search.objective](network)
    predicted = latency.load_or_measure(network, paths.STATE / "latency")
    console.print(
        f"latency on {predicted.table.device}: {predicted.smallest:.2f} to {predicted.full:.2f} "
        f"ms, predicted with a median error of {predicted.table.median_error:.1%}",
        soft_wrap=True,
    )
    return predicted
