"""Stage ``front``: measure candidates over the whole cost range and keep the non-dominated ones."""

import json
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from joslim.certainty import is_guessing
from joslim.data import Images
from joslim.front import Subnetworks
from joslim.machine.turns import doubts
from joslim.shipping.latency import configuration_latencies
from joslim.supernet.artifact import save_slimmable, slimmable_model
from joslim.supernet.slimmable_model import Configuration
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_supernet
from joslim.widths import Widths
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
from pipelines.artifacts.latencies import DATE, DEVICE, MeasuredOn
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.building import make_strategy
from pipelines.pictures import plot_front
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.settings.profiles import DeviceLatency, device_latencies
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main() -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    logged = {"front": params.front.model_dump(), "search": params.search.model_dump()}
    with tracking.stage_run("front", params=logged, data_digest=info.digest) as run:
        network, spec = load_supernet(paths.SUPERNET, allow=params.network.own_code)
        strategy = make_strategy(params, network)
        strategy.load_state_dict(read_json(paths.SUPERNET / "search.json"))
        val = load_split("val").kept()
        subnetworks = Subnetworks(network, load_split("train"), params.front.calibration_images)
        found = measure_all_candidates(params, subnetworks, strategy, val)
        candidates = candidate_table(found, strategy, network)
        is_full = candidates["source"] == "full"
        kept, dense, measured = _with_latencies(
            candidates[candidates["on_front"] | is_full], subnetworks, spec
        )
        front = kept[kept["on_front"]]
        costs = [c for c in kept if c in EXACT or c.startswith("latency_ms")]
        full_costs = kept.loc[is_full, costs].iloc[0].astype(float).to_dict()
        if not strategy.keeps_limits(network.space.full):
            kept = front
        rows = kept.to_dict("records")
        configurations = [(_configuration(row), dense[row["id"]]) for row in rows]
        shutil.rmtree(paths.FRONT, ignore_errors=True)
        save_slimmable(paths.FRONT, network, spec, configurations, full_costs)
        metrics: dict[str, Any] = front_metrics(found, strategy)
        for one in measured:
            metrics |= one.metrics
        columns = [*COLUMNS, *(c for c in costs if c not in COLUMNS)]
        metrics["warnings"] = _doubts(metrics["full_val_top1"], val)
        run.warnings(metrics["warnings"])
        _write(front[columns], candidates.drop(columns="on_front"), full_costs, metrics)
        run.params({k: v for k, v in metrics.items() if k.startswith((DEVICE, DATE))})
        run.headline({k: v for k, v in metrics.items() if isinstance(v, int | float)})
        run.artifact(paths.FRONT_REPORT)
    console.print(
        f"front: {metrics['num_front']} of {metrics['num_candidates']} candidates, "
        f"hypervolume {metrics['hypervolume']:.4f}"
    )
    for one in measured:
        for reason, ids in one.doubts.items():
            console.print(
                f"{one.column} may be too long of {', '.join(ids)}: {reason}", soft_wrap=True
            )


def _with_latencies(
    rows: pd.DataFrame, subnetworks: Subnetworks, spec: NetworkSpec
) -> tuple[pd.DataFrame, dict[str, nn.Module], list[MeasuredOn]]:
    """The rows with their latencies, their recalibrated networks by id, and what measured them."""
    widths_list = [parse_widths(widths) for widths in rows["widths"]]
    networks = track(map(subnetworks.get, widths_list), "recalibrating the front", len(rows))
    dense = dict(zip(rows["id"], networks, strict=True))
    network = subnetworks.network
    configurations = [(_configuration(row), dense[row["id"]]) for row in rows.to_dict("records")]
    model = slimmable_model(network, spec, configurations, {}).to("cpu")
    found = configuration_latencies(model)
    timings = [found.timings[identity] for identity in rows["id"]]
    columns = {
        "latency_ms": [round(timing.milliseconds, 4) for timing in timings],
        "latency_spread": [round(timing.spread, 4) for timing in timings],
    }
    measured = [MeasuredOn("latency_ms", found.device, found.date, doubts(found.timings))]
    for latency in device_latencies(network):
        columns[latency.column] = list(map(latency, widths_list))
        measured.append(
            _measured_elsewhere(latency, dict(zip(rows["id"], widths_list, strict=True)))
        )
        console.print(f"{latency.predicted.name}: {latency.summary}", soft_wrap=True)
    return rows.assign(**columns), dense, measured


def _measured_elsewhere(latency: DeviceLatency, widths: Mapping[str, Widths]) -> MeasuredOn:
    """On a profile's device; ``widths`` by the ids of what is on the front."""
    profile, found = latency.profile, dict[str, list[str]]()
    for identity, own in widths.items():
        if own in profile.doubts:
            found.setdefault(profile.doubts[own], []).append(identity)
    return MeasuredOn(latency.column, profile.device, profile.date, found)


def _doubts(full_top1: float, val: Images) -> list[str]:
    """Why the network has learned nothing, once it is printed; nothing if it has."""
    guess = val.labels.bincount().max().item() / len(val)
    if not is_guessing(full_top1, len(val), guess):
        return []
    text = (
        f"the full network's val top-1 is {full_top1:.2%}, no better than a guess: always naming "
        f"the most frequent class gives {guess:.2%} ({len(val):,} images)"
    )
    warnings.warn(text, stacklevel=2)
    return [text]


def _configuration(row: Mapping[str, Any]) -> Configuration:
    numbers = {c: float(v) for c, v in row.items() if c in NUMBERS or c.startswith("latency_ms_")}
    return Configuration(row["id"], parse_widths(row["widths"]), numbers)


def _write(
    front: pd.DataFrame,
    candidates: pd.DataFrame,
    full_costs: dict[str, float],
    metrics: dict[str, Any],
) -> None:
    paths.FRONT_REPORT.mkdir(parents=True, exist_ok=True)
    front.to_csv(paths.FRONT_REPORT / "front.csv", index=False)
    candidates.to_csv(paths.FRONT_REPORT / "candidates.csv", index=False)
    (paths.FRONT_REPORT / "full.json").write_text(json.dumps(full_costs, indent=1) + "\n")
    (paths.FRONT_REPORT / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    plot_front(front, candidates, str(metrics["objective"]), paths.FRONT_REPORT / "front.png")


if __name__ == "__main__":
    run_command(main)
