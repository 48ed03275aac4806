"""The library's objects as ``params.yaml`` asks for them: strategy, objective, trainer."""

import torch

from joslim import costs, search
from joslim.costs import Cost, latency
from joslim.search import Strategy
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.spec import NetworkSpec
from joslim.training import Trainer
from joslim.training.threads import use_suitable_threads
from pipelines.artifacts.prepared_data import load_split
from pipelines.settings import paths
from pipelines.settings.params import Params
from pipelines.settings.profiles import device_latency
from pipelines.terminal.console import console


def objective(params: Params, network: SlimmableNetwork) -> Cost:
    """The cost named by ``search.objective``; latency is measured on this device at first."""
    name = params.search.objective
    if name in costs.COSTS:
        return costs.COSTS[name](network)
    if name == "latency":
        predicted = latency.load_or_measure(network, paths.STATE / "latency")
    else:
        predicted = device_latency(network, name.partition("@")[2]).predicted
    table = predicted.table
    doubt = f"; they may be too long: {table.doubt}" if table.doubt else ""
    console.print(
        f"latency on {table.device}: {predicted.smallest:.2f} to {predicted.full:.2f} "
        f"ms, predicted with a median error of {table.median_error:.1%}{doubt}",
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


def make_trainer(params: Params, spec: NetworkSpec) -> Trainer:
    """A supernet with fresh weights, its search and the prepared data, ready to run."""
    torch.manual_seed(params.seed)
    network = spec.build(params.network.weights, allow=params.network.own_code)
    if params.network.weights is not None:
        network.sort_channels_()
    use_suitable_threads(network, params.training.batch_size)
    strategy = make_strategy(params, network)
    return Trainer(network, strategy, load_split("train"), params.training, seed=params.seed)
