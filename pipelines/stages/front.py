"""Stage ``front``: measure candidates over the whole cost range and keep the non-dominated ones."""

import json
import shutil

import pandas as pd

from joslim.front import Subnetworks, measure_candidates, num_candidates
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import Subnetwork, load_supernet, save_subnetwork
from pipelines import tracking
from pipelines.artifacts.files import read_json
from pipelines.artifacts.front_table import (
    COLUMNS,
    EXACT,
    candidate_table,
    front_metrics,
    parse_widths,
)
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.building import make_strategy
from pipelines.pictures import plot_front
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main() -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    logged = {"front": params.front.model_dump(), "search": params.search.model_dump()}
    with tracking.stage_run("front", params=logged, data_digest=info.digest) as run:
        network, spec = load_supernet(paths.SUPERNET)
        strategy = make_strategy(params, network)
        strategy.load_state_dict(read_json(paths.SUPERNET / "search.json"))
        val = load_split("val").kept()
        subnetworks = Subnetworks(network, load_split("train"), params.front.calibration_images)
        measured = measure_candidates(
            subnetworks,
            strategy,
            val,
            num_proposals=params.front.num_proposals,
            refresh_images=params.training.refresh_images,
        )
        total = num_candidates(strategy, params.front.num_proposals)
        found = list(track(measured, "measuring candidates", total))
        candidates = candidate_table(found, strategy, network)
        front = candidates[candidates["on_front"]].drop(columns="on_front").copy()
        _save(front, subnetworks, spec)
        full = candidates[candidates["source"] == "full"].iloc[0]
        full_costs = {column: float(full[column]) for column in EXACT}
        _add_latencies(front, full_costs, subnetworks)
        metrics = front_metrics(found, strategy)
        _write(front[COLUMNS], candidates.drop(columns="on_front"), full_costs, metrics)
        run.headline({k: v for k, v in metrics.items() if not isinstance(v, str)})
        run.artifact(paths.FRONT_REPORT)
    console.print(
        f"front: {metrics['num_front']} of {metrics['num_candidates']} candidates, "
        f"hypervolume {metrics['hypervolume']:.4f}"
    )


def _save(front: pd.DataFrame, subnetworks: Subnetworks, spec: NetworkSpec) -> None:
    """Save every sub-network of the front."""
    shutil.rmtree(paths.FRONT, ignore_errors=True)
    for row in track(front.itertuples(), "saving the front", len(front)):
        widths = parse_widths(row.widths)
        subnetwork = Subnetwork.of(
            subnetworks.network,
            spec,
            widths,
            subnetworks.get(widths),
            kind="front",
            id=row.id,
            source=row.source,
        )
        save_subnetwork(paths.FRONT / row.id, subnetwork)


def _add_latencies(
    front: pd.DataFrame, full_costs: dict[str, float], subnetworks: Subnetworks
) -> None:
    found = [parse_widths(widths) for widths in front["widths"]]
    full = subnetworks.network.space.full
    timed = list(dict.fromkeys([*found, full]))
    latencies = dict(zip(timed, subnetworks.latencies_ms(timed), strict=True))
    front["latency_ms"] = [latencies[widths] for widths in found]
    full_costs["latency_ms"] = latencies[full]


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
    run_command(main)
