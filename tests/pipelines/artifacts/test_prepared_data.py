import json
from dataclasses import asdict
from pathlib import Path

import pytest
from script_project import ROOT

from joslim.data import Remark
from joslim.errors import DataError
from pipelines.artifacts.prepared_data import DataInfo, data_settings
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.params import Params

REMARKS = (Remark("transparent images, laid on white", 3, "cat/1.png"),)


def changed(params: Params, **data: object) -> Params:
    return params.model_copy(update={"data": params.data.model_copy(update=data)})


def test_data_made_with_other_settings_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = read_params(ROOT / "params.yaml")
    info = DataInfo("toy", ("a", "b"), (0.5,), (0.2,), "0" * 64, data_settings(params), REMARKS)
    monkeypatch.chdir(tmp_path)
    paths.PREPARED.mkdir(parents=True)
    (paths.PREPARED / "dataset.json").write_text(json.dumps(asdict(info)))
    assert DataInfo.load_for(params) == info
    assert DataInfo.load_for(changed(params, path=Path("/moved/elsewhere"))) == info
    with pytest.raises(DataError, match=r"made with data.image_size 28, but in .* it is 32; run"):
        DataInfo.load_for(changed(params, image_size=32))
    with pytest.raises(DataError, match=r"made with data.background white, but in .* it is red"):
        DataInfo.load_for(changed(params, background="red"))
    with pytest.raises(DataError, match=r"made with seed 0, but in .* it is 1; run"):
        DataInfo.load_for(params.model_copy(update={"seed": 1}))
