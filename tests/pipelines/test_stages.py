"""What `dvc.yaml` watches: code that decides a result, so that a change runs its stage again."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DECIDE_NO_WEIGHTS = {
    "__init__.py", "checkpoint.py", "device.py", "errors.py", "evaluation.py", "finetuning.py",
    "pareto.py", "verification.py",
}  # fmt: skip
"""Of `joslim`: what stage ``train`` does not use, or without any effect on the weights."""


def test_training_watches_all_code_that_decides_its_weights() -> None:
    watched = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["deps"]
    library = {path.name for path in (ROOT / "joslim").iterdir() if path.name != "__pycache__"}
    assert {f"joslim/{name}" for name in library - DECIDE_NO_WEIGHTS} == {
        path for path in watched if path.startswith("joslim/")
    }
    assert library >= DECIDE_NO_WEIGHTS


def test_every_watched_file_exists() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    watched = {path for stage in stages for path in stage.get("do", stage).get("deps", [])}
    code = {path for path in watched if path.startswith(("joslim/", "pipelines/"))}
    assert code
    assert {path for path in code if not (ROOT / path).exists()} == set()
