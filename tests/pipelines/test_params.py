from pathlib import Path

import pytest
from script_project import ROOT

from joslim.errors import ConfigError
from pipelines.params import read_params

TEXT = (ROOT / "params.yaml").read_text()
BUDGETS = TEXT[TEXT.index("budgets:") : TEXT.index("\ntune:")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "params.yaml is empty; expected the sections seed, data, network"),
        ("[1, 2]", "params.yaml: the file is [1, 2]; expected keys with values"),
        ("a: 1\nb: {c: 1,\n c: 2}", "c is given twice, in lines 2 and 3; expected it once"),
        (
            TEXT.replace(BUDGETS, "budgets: {Tiny_1: {macs: 50%}}\n"),
            "budgets: a name is 'Tiny_1'; expected at most 30 lower-case letters",
        ),
        (
            TEXT.replace(BUDGETS, "budgets: [tiny]\n"),
            "budgets is ['tiny']; expected keys with values, as key: value",
        ),
    ],
)
def test_files_of_a_wrong_form_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_params(file)
    assert message in str(refused.value)


def test_a_misspelt_key_is_told_once_with_what_it_may_mean(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(TEXT.replace("batch_size:", "batchsize:"))
    with pytest.raises(ConfigError) as caught:
        read_params(file)
    expected = "training.batchsize is not a known key; did you mean training.batch_size?"
    assert str(caught.value) == f"{file}: {expected}"
