from pathlib import Path

import pytest
from script_project import ROOT

from pipelines.settings import paths


def test_the_root_is_the_nearest_checkout_else_that_of_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "models" / "front"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert paths.root() == ROOT
    (tmp_path / "dvc.yaml").touch()
    assert paths.root() == tmp_path
