"""A training that is not to be believed says so: printed, in its numbers, and in MLflow."""

from pathlib import Path

import pytest
import yaml
from script_project import ROOT

from pipelines import tracking
from pipelines.artifacts.files import read_json
from pipelines.settings import paths
from pipelines.stages import front, prepare, train


@pytest.fixture
def project(tmp_path: Path, fashion_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """38 steps at a learning rate that is far too high, as the working directory."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"path": str(fashion_mnist), "image_size": 12}
    params["network"]["name"] = "resnet8-half"
    params["training"] |= {
        "epochs": 2, "batch_size": 16, "precision": "float32", "learning_rate": 20.0,
        "warmup_fraction": 0.1, "refresh_images": 230,
    }  # fmt: skip
    params["front"] = {"num_proposals": 2, "calibration_images": 16}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("project")
def test_a_training_that_learns_and_searches_nothing_says_so() -> None:
    prepare.main()
    with pytest.warns(UserWarning, match="nothing is searched|the loss is") as told:
        train.main()
    texts = [str(warning.message) for warning in told]
    searched, on_the_way, at_the_end = texts
    assert searched.startswith(
        "training.steps_per_proposal is 60, and the training has 38 steps, so nothing is searched"
    )
    for text in (on_the_way, at_the_end):
        assert text.startswith("the loss is ")
        assert "training.learning_rate is 20 and training.batch_size is 16: lower" in text
    noted = [searched, at_the_end]
    assert read_json(paths.TRAIN_REPORT / "metrics.json")["warnings"] == noted
    runs = {
        run.data.tags.get("joslim.stage", "pipeline"): run.data.tags
        for run in tracking.client().search_runs([tracking.experiment_id()])
        if "warnings" in run.data.tags
    }
    assert runs["train"]["warnings"] == runs["pipeline"]["warnings"] == "\n".join(noted)
    with pytest.warns(UserWarning, match="val top-1 is .*, no better than a guess: always naming"):
        front.main()
    (warning,) = read_json(paths.FRONT_REPORT / "metrics.json")["warnings"]
    assert warning.startswith("the full network's val top-1 is ")
