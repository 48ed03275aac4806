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


def test_what_outlives_a_temporary_copy_is_kept_in_the_checkout_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmp1234"
    copy.mkdir(parents=True)
    for folder in (tmp_path, copy):
        (folder / "dvc.yaml").touch()
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(copy)
    assert paths.kept() == paths.root() == copy
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert (paths.root(), paths.kept()) == (copy, tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "another"))
    assert paths.kept() == copy
