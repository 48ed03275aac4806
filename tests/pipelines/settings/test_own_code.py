from pathlib import Path

import pytest

from joslim.errors import ConfigError
from pipelines.settings.own_code import own_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("network: {name: resnet20}", ()),
        ("network: {name: mynet:small_net, leaves: [blocks.gate:Gate]}",
         ("mynet:small_net", "blocks.gate:Gate")),
        ("network: {leaves: null}", ()),
        ("network: mynet:small_net", ()),
        ("budgets: {}", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_what_the_settings_name_is_allowed_and_nothing_else(
    text: str, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    assert own_code() == ()
    (tmp_path / "params.yaml").write_text(text)
    assert own_code() == expected


@pytest.mark.parametrize("text", ["network: [", "[" * 10_000])
def test_settings_that_cannot_be_read_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"params.yaml cannot be read"):
        own_code(tmp_path / "params.yaml")
