"""Stage ``front``: measure candidates over the whole cost range and keep the non-dominated ones."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from joslim import costs, pareto
from joslim.calibration import even_batch, recalibrate_batchnorm
from joslim.costs import Cost
from joslim.data import Images
from joslim.data.images import unit_range
from joslim.device import training_device
from joslim.evaluation import Measurement, latencies_ms, measure
from joslim.memory_format import fast_memory_format
from joslim.refresh import refresh_history
from joslim.search import Strategy
from joslim.slimmable_network import SlimmableNetwork
from joslim.storage import NetworkSpec, load_supernet, save_subnetwork
from joslim.widths import Widths
from pipelines import paths, tracking
from pipelines.files import read_json
from pipelines.objective import make_strategy
from pipelines.params import Params, load_params
from pipelines.pictures import plot_front
from pipelines.prepare import DataInfo, load_split
from pipelines.progress import track
from pipelines.stage import console, run_stage

BATCH = 512
TOGETHER = 16
"""Sub-networks in memory at a time."""

EXACT = ("objective", "macs", "params", "memory_bytes")
COLUMNS = [
    "id", "objective", "macs", "macs_fraction", "params", "memory_bytes", "latency_ms",
    "val_loss", "val_top1", "val_top5", "source", "widths",
]  # fmt: skip


def main() -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    logged = {"front": params.front.model_dump(), "search": params.search.model_dump()}
    with tracking.stage_run("front", params=logged, data_digest=info.digest) as run:
        network, spec = load_supernet(paths.SUPERNET)
        strategy = make_strategy(params, network)
        strategy.load_state_dict(read_json(paths.SUPERNET / "search.json"))
        cost = strategy.cost
        val = load_split("val").kept()
        subnetworks = Subnetworks(network, load_split("train"), params.front.calibration_images)
        candidates = measure_candidates(subnetworks, strategy, val, params)
        front = candidates[candidates["on_front"]].drop(columns="on_front").copy()
        _save(front, subnetworks, spec)
        full = candidates[candidates["source"] == "full"].iloc[0]
        full_costs = {column: float(full[column]) for column in EXACT}
        found = [parse_widths(widths) for widths in front["widths"]]
        timed = list(dict.fromkeys([*found, network.space.full]))
        latencies = dict(zip(timed, subnetworks.latencies_ms(timed), strict=True))
        front["latency_ms"] = [latencies[widths] for widths in found]
        full_costs["latency_ms"] = latencies[network.space.full]
        metrics = front_metrics(candidates, cost)
        _write(front[COLUMNS], candidates.drop(columns="on_front"), full_costs, metrics)
        run.headline({k: v for k, v in metrics.items() if not isinstance(v, str)})
        run.artifact(paths.FRONT_REPORT)
    console.print(
        f"front: {metrics['num_front']} of {metrics['num_candidates']} candidates, "
        f"hypervolume {metrics['hypervolume']:.4f}"
    )


class Subnetworks:
    """Dense sub-networks of one supernet, ready to be measured.

    Attributes:
        network: The supernet, wherever it is.
        device: Where its sub-networks are: on the GPU, if there is one.
    """

    def __init__(self, network: SlimmableNetwork, train: Images, num_images: int) -> None:
        self.network = network
        self.device = training_device()
        self._train = train
        self._calibration = train.subset(slice(num_images)).in_memory()

    def get(self, widths: Widths) -> nn.Module:
        """The sub-network with batch norm recalibrated on training images."""
        return self.get_all([widths])[0]

    def get_all(self, widths_list: Sequence[Widths]) -> list[nn.Module]:
        """Sub-networks, recalibrated in one pass over the images."""
        models = [self.network.extract(widths) for widths in widths_list]
        for model in models:
            model.to(self.device).to(memory_format=fast_memory_format(model))
        size = even_batch(len(self._calibration), BATCH)
        batches = self._calibration.batches(size, self.device)
        recalibrate_batchnorm(models, (images for images, _ in batches))
        return models

    def measure(self, model: nn.Module, images: Images) -> Measurement:
        """The results of one of `get_all` on ``images``, in float32."""
        return measure(model, images.batches(BATCH, self.device))

    def held_out(self, num_images: int) -> Tensor:
        """The images by which training measures widths, where the supernet now is as well."""
        self.network.to(self.device)
        return unit_range(self._train.subset(slice(num_images)).in_memory().images, self.device)

    def latencies_ms(self, widths_list: Sequence[Widths]) -> list[float]:
        """Measured on the CPU on one image, in the memory format in which models are served."""
        image = torch.rand(1, *self._calibration.images.shape[1:])
        models = [self.network.extract(widths).cpu() for widths in widths_list]
        return [round(latency, 4) for latency in latencies_ms(models, image)]


def measure_candidates(
    subnetworks: Subnetworks, strategy: Strategy, val: Images, params: Params
) -> pd.DataFrame:
    """One row per candidate, cheapest first, with a column ``on_front``."""
    network, cost = subnetworks.network, strategy.cost
    sizes = {name: make(network) for name, make in costs.COSTS.items()}
    rows = []
    total = 2 + params.front.num_proposals + len(_best_visited(strategy))
    for widths, source, result in track(
        _measured(subnetworks, strategy, val, params), "measuring candidates", total
    ):
        row: dict[str, Any] = {"id": subnetwork_id(widths), "source": source}
        row |= {"widths": "-".join(map(str, widths)), "objective": cost(widths)}
        row |= {name: size(widths) for name, size in sizes.items()}
        row |= {"macs_fraction": sizes["macs"].fraction(widths)}
        row |= {f"val_{name}": value for name, value in result.numbers().items()}
        rows.append(row)
    table = pd.DataFrame(rows).rename(columns={"memory": "memory_bytes"})
    table = table.sort_values(["objective", "val_loss"], ignore_index=True)
    error, spent = (torch.tensor(c.to_numpy()) for c in (1 - table.val_top1, table.objective))
    allowed = torch.tensor([strategy.keeps_limits(parse_widths(w)) for w in table["widths"]])
    error = error.masked_fill(~allowed, torch.nan)
    table["on_front"] = pareto.front_mask(error, spent.double()).numpy()
    return table


def _measured(
    subnetworks: Subnetworks, strategy: Strategy, val: Images, params: Params
) -> Iterator[tuple[Widths, str, Measurement]]:
    """Measure the smallest and full network, the best visited ones, and fresh proposals."""
    space = strategy.space
    sources = {space.smallest: "smallest", space.full: "full"}
    sources |= {w: "visited" for w in _best_visited(strategy) if w not in sources}
    positions = torch.linspace(0, 1, params.front.num_proposals + 2)[1:-1].tolist()
    targets = [strategy.target_cost(position) for position in positions]
    if not strategy.search_after_training:
        for target in targets:
            sources.setdefault(strategy.ask(target_cost=target), "proposed")
        targets = []
    unmeasured = list(sources)
    while unmeasured:
        together, unmeasured = unmeasured[:TOGETHER], unmeasured[TOGETHER:]
        for widths, model in zip(together, subnetworks.get_all(together), strict=True):
            yield widths, sources[widths], subnetworks.measure(model, val)
    if not targets:
        return
    held_out = subnetworks.held_out(params.training.refresh_images)
    for target in targets:
        widths = strategy.ask(target_cost=target)
        if widths not in sources:
            sources[widths] = "proposed"
            refresh_history(subnetworks.network, strategy, [widths], held_out)
            yield widths, "proposed", subnetworks.measure(subnetworks.get(widths), val)


def _best_visited(strategy: Strategy) -> list[Widths]:
    """Visited widths that nothing dominates under the final weights' held-out loss."""
    history = strategy.history
    if len(history) == 0:
        return []
    cost = torch.tensor([float(strategy.cost(widths)) for widths in history.widths])
    mask = pareto.front_mask(history.losses, cost.double())
    return [widths for widths, kept in zip(history.widths, mask.tolist(), strict=True) if kept]


def subnetwork_id(widths: Widths) -> str:
    """A short name that only these widths have."""
    return "w-" + hashlib.sha256("-".join(map(str, widths)).encode()).hexdigest()[:10]


def parse_widths(text: str) -> Widths:
    """Widths as they stand in ``front.csv``."""
    return tuple(map(int, text.split("-")))


def _save(front: pd.DataFrame, subnetworks: Subnetworks, spec: NetworkSpec) -> None:
    """Save every sub-network of the front."""
    shutil.rmtree(paths.FRONT, ignore_errors=True)
    for row in track(front.itertuples(), "saving the front", len(front)):
        widths = parse_widths(row.widths)
        provenance = {"kind": "front", "id": row.id, "source": row.source}
        save_subnetwork(paths.FRONT / row.id, subnetworks.get(widths), spec, widths, provenance)


def front_metrics(candidates: pd.DataFrame, cost: Cost) -> dict[str, float | int | str]:
    """Headline numbers; the hypervolume is of error and cost fraction, below (1, 1)."""
    front = candidates[candidates["on_front"]]
    error, fraction = 1 - front["val_top1"], front["objective"] / cost.full
    losses, sizes = (torch.tensor(values.to_numpy()).double() for values in (error, fraction))
    full = candidates["source"] == "full"
    return {
        "objective": cost.name,
        "hypervolume": round(pareto.hypervolume(losses, sizes, (1.0, 1.0)), 6),
        "num_front": len(front),
        "num_candidates": len(candidates),
        "full_val_top1": float(candidates.loc[full, "val_top1"].iloc[0]),
    }


def _write(
    front: pd.DataFrame,
    candidates: pd.DataFrame,
    full_costs: dict[str, float],
    metrics: dict[str, float | int | str],
) -> None:
    paths.FRONT_REPORT.mkdir(parents=True, exist_ok=True)
    front.to_csv(paths.FRONT_REPORT / "front.csv", index=False)
    candidates.to_csv(paths.FRONT_REPORT / "candidates.csv", index=False)
    (paths.FRONT_REPORT / "full.json").write_text(json.dumps(full_costs, indent=1) + "\n")
    (paths.FRONT_REPORT / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    plot_front(front, candidates, str(metrics["objective"]), paths.FRONT_REPORT / "front.png")


if __name__ == "__main__":
    run_stage(main)
