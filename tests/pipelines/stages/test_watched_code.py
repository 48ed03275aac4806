"""What `dvc.yaml` watches: code that decides a result, so that a change runs its stage again."""

import pytest
import yaml
from watched_code import ROOT, watched_code

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_all_code_that_decides_its_results(stage: str) -> None:
    dependencies = STAGES[stage].get("do", STAGES[stage])["deps"]
    code = [path for path in dependencies if path.startswith(("joslim/", "pipelines/"))]
    assert sorted(code) == watched_code(stage)


def test_the_walk_finds_what_is_imported_in_functions_and_by_other_modules() -> None:
    assert "joslim/front.py" in watched_code("front")
    assert "joslim/tracing" in watched_code("evaluate")
    assert "joslim/finetuning.py" not in watched_code("train")
    assert all((ROOT / path).exists() for stage in STAGES for path in watched_code(stage))
