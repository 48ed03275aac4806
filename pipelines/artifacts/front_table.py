"""Candidates for the front: measured, and as a table with a row for each."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from joslim import costs, front
from joslim.data import Images
from joslim.front import Candidate, Subnetworks
from joslim.search import Strategy
from joslim.supernet.network import SlimmableNetwork
from joslim.widths import Widths
from pipelines.settings.params import Params
from pipelines.terminal.progress import track

EXACT = ("objective", "macs", "params", "memory_bytes")
"""The columns of costs that are not measured."""

NUMBERS = (
    "macs", "params", "memory_bytes", "latency_ms", "latency_spread",
    "val_loss", "val_top1", "val_top5",
)  # fmt: skip
"""Columns of what a sub-network costs and of what was measured of it."""

COLUMNS = [
    "id", "objective", "macs", "macs_fraction", "params", "memory_bytes", "latency_ms",
    "latency_spread", "val_loss", "val_top1", "val_top5", "source", "widths",
]  # fmt: skip
"""Of ``front.csv``."""


def measure_all_candidates(
    params: Params, subnetworks: Subnetworks, strategy: Strategy, val: Images
) -> list[Candidate]:
    """Measure the candidates of a trained network as ``params.yaml`` asks, with a progress bar."""
    measured = front.measure_candidates(
        subnetworks,
        strategy,
        val,
        num_proposals=params.front.num_proposals,
        refresh_images=params.training.refresh_images,
    )
    total = front.num_candidates(strategy, params.front.num_proposals)
    return list(track(measured, "measuring candidates", total))


def candidate_table(
    candidates: Sequence[Candidate], strategy: Strategy, network: SlimmableNetwork
) -> pd.DataFrame:
    """One row per candidate, cheapest first, with a column ``on_front``."""
    candidates = front.cheapest_first(candidates)
    sizes = {name: make(network) for name, make in costs.COSTS.items()}
    rows = []
    for candidate in candidates:
        widths = candidate.widths
        row: dict[str, Any] = {"id": subnetwork_id(widths), "source": candidate.source}
        row |= {"widths": "-".join(map(str, widths)), "objective": candidate.cost}
        row |= {name: size(widths) for name, size in sizes.items()}
        row |= {"macs_fraction": sizes["macs"].fraction(widths)}
        row |= {f"val_{name}": value for name, value in candidate.measurement.numbers().items()}
        rows.append(row)
    table = pd.DataFrame(rows).rename(columns={"memory": "memory_bytes"})
    table["on_front"] = front.front_mask(candidates, strategy)
    return table


def front_metrics(
    candidates: Sequence[Candidate], strategy: Strategy
) -> dict[str, float | int | str]:
    """Headline numbers of all candidates and their front."""
    on_front = zip(candidates, front.front_mask(candidates, strategy), strict=True)
    kept = [candidate for candidate, is_kept in on_front if is_kept]
    full = next(candidate for candidate in candidates if candidate.source == "full")
    return {
        "objective": strategy.cost.name,
        "hypervolume": round(front.hypervolume(kept, strategy), 6),
        "num_front": len(kept),
        "num_candidates": len(candidates),
        "full_val_top1": full.measurement.numbers()["top1"],
    }


def subnetwork_id(widths: Widths) -> str:
    """A short name that only these widths have."""
    return "w-" + hashlib.sha256("-".join(map(str, widths)).encode()).hexdigest()[:10]


def parse_widths(text: str) -> Widths:
    """Widths as they stand in ``front.csv``."""
    return tuple(map(int, text.split("-")))
