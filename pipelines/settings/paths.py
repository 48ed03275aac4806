"""Where every stage reads and writes, relative to the checkout's `root`."""

import os
from pathlib import Path

INPUTS = Path("data/inputs")
PREPARED = Path("data/prepared")
SUPERNET = Path("models/supernet")
TRAIN_REPORT = Path("reports/train")
FRONT = Path("models/front")
SLIMMABLE = Path("models/slimmable")
FRONT_REPORT = Path("reports/front")
BUDGETS = Path("models/budgets")
EVALUATE = Path("reports/evaluate")
TUNE_REPORT = Path("reports/tune")
REGISTERED = Path("reports/registered.json")
REPORT_PAGE = Path("reports/index.html")
PROFILES = Path("profiles")
STATE = Path(".joslim")
PARAMS = Path("params.yaml")
DVC_LOCK = Path("dvc.lock")


def root() -> Path:
    """The checkout's root, absolute.

    The nearest folder with a ``dvc.yaml`` from the working directory upward; outside of any, the
    checkout that this package was installed from.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    return Path(__file__).resolve().parents[2]


def kept() -> Path:
    """Where that is kept which outlives a run: `root`, absolute.

    Of a copy that `dvc exp run --temp` works in and deletes, the checkout that it is a copy of, as
    DVC tells the stages.
    """
    original = Path(os.environ.get("DVC_ROOT", root()))
    return original if root().is_relative_to(original / ".dvc" / "tmp") else root()
