"""The search that ``params.yaml`` asks for: its strategy, its objective and its limits."""

from joslim import costs, latency, search
from joslim.costs import Cost
from joslim.search import Strategy
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


def make_strategy(params: Params, network: SlimmableNetwork) -> Strategy:
    """The strategy at its start."""
    options = {} if params.search.strategy == "slim" else {"num_initial": params.search.num_initial}
    limited = ((limit, costs.COSTS[limit.quantity.name](network)) for limit in params.limits())
    return search.create(
        params.search.strategy,
        space=network.space,
        cost=objective(params, network),
        seed=params.seed,
        limits=[(cost, limit.resolve(cost.full)) for limit, cost in limited],
        **options,
    )
