"""What options of training and search change on Joslim's front.

    python -m benchmarks.options --seeds 0 1 2 --objectives macs

trains as ``benchmarks.strategies`` does, with one option changed at a time. Resumable as that is;
finished cases stand in ``benchmarks/results/options``. Prints a Markdown table.
"""

import argparse
import json
import os
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import strategies
from pipelines.settings import paths
from pipelines.settings.params import Params

RESULTS = Path("benchmarks/results/options")
NETWORK = "resnet14-half"
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "as in params.yaml": {},
    "distillation_teacher average": {"training": {"distillation_teacher": "average"}},
    "distillation_divergence alpha": {"training": {"distillation_divergence": "alpha"}},
    "num_initial 400": {"search": {"num_initial": 400}},
    "weight_average 0": {"training": {"weight_average": 0.0}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--objectives", nargs="+", default=["macs"])
    chosen = parser.parse_args()
    os.chdir(paths.root())
    for seed, objective, option in product(chosen.seeds, chosen.objectives, OPTIONS):
        params = changed(strategies.settings(NETWORK, seed, objective, "joslim"), OPTIONS[option])
        name = f"{objective}-{option.replace(' ', '-')}-{seed}.json"
        strategies.run_once(RESULTS / name, partial(run, option, params))
    rows = pd.DataFrame([json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))])
    print(summary(rows))


def changed(params: Params, option: dict[str, dict[str, Any]]) -> Params:
    """The parameters with an option's keys replaced."""
    sections = {
        name: getattr(params, name).model_copy(update=keys) for name, keys in option.items()
    }
    return params.model_copy(update=sections)


def run(option: str, params: Params) -> dict[str, Any]:
    return {"option": option, **strategies.run(NETWORK, params)}


def summary(rows: pd.DataFrame) -> str:
    """Mean (± standard deviation) over the seeds, in Markdown."""
    columns = {"hypervolume": "hypervolume, val", "test_hypervolume": "test"}
    columns |= {"uniform_hypervolume": "of uniform widths", "minutes": "minutes"}
    found = rows.groupby(["objective", "option"])[list(columns)]
    mean, spread = found.mean(), found.std()
    table = mean.map("{:.4f}".format) + spread.map(lambda s: "" if pd.isna(s) else f" ± {s:.4f}")
    table.insert(0, "seeds", found.size())
    return table.rename(columns=columns).reset_index().to_markdown(index=False)


if __name__ == "__main__":
    main()
