"""Stage ``front``: measure candidates over the whole cost range and keep the non-dominated ones."""

import json
import shutil

import pandas as pd

from joslim.front import Subnetworks
from joslim.supernet.artifact import save_slimmable
from joslim.supernet.slimmable_model import Configuration
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_supernet
from pipelines import tracking
from pipelines.artifacts.files import read_json
from pipelines.artifacts.front_table import (
    COLUMNS,
    EXACT,
    NUMBERS,
    candidate_table,
    front_metrics,
    measure_all_candidates,
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
        found = measure_all_candidates(params, subnetworks, strategy, val)
        candidates = candidate_table(found, strategy, network)
        front = _with_latencies(candidates[candidates["on_front"]], subnetworks)
        full = _with_latencies(candidates[candidates["source"] == "full"], subnetworks)
        full_costs = {column: float(full[column].item()) for column in (*EXACT, "latency_ms")}
        keeps_limits = strategy.keeps_limits(network.space.full)
        kept = pd.concat([front, full]).drop_duplicates("id") if keeps_limits else front
        _save(kept, subnetworks, spec, full_costs)
        metrics = front_metrics(found, strategy)
        _write(front[COLUMNS], candidates.drop(columns="on_front"), full_costs, metrics)
        run.headline({k: v for k, v in metrics.items() if not isinstance(v, str)})
        run.artifact(paths.FRONT_REPORT)
    console.print(
        f"front: {metrics['num_front']} of {metrics['num_candidates']} candidates, "
        f"hypervolume {metrics['hypervolume']:.4f}"
    )


def _with_latencies(rows: pd.DataFrame, subnetworks: Subnetworks) -> pd.DataFrame:
    found = subnetworks.latencies_ms([parse_widths(widths) for widths in rows["widths"]])
    return rows.assign(latency_ms=found)


def _save(
    kept: pd.DataFrame, subnetworks: Subnetworks, spec: NetworkSpec, full_costs: dict[str, float]
) -> None:
    """Save what is kept as one network: its weights once, and statistics for each row."""
    shutil.rmtree(paths.FRONT, ignore_errors=True)
    configurations = []
    for row in track(kept.to_dict("records"), "saving the front", len(kept)):
        widths = parse_widths(row["widths"])
        numbers = {column: float(row[column]) for column in NUMBERS}
        configurations.append((Configuration(row["id"], widths, numbers), subnetworks.get(widths)))
    save_slimmable(paths.FRONT, subnetworks.network, spec, configurations, full_costs)


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
