"""The library's errors in the terms of ``params.yaml``."""

from functools import reduce
from typing import Any

import pytest
import yaml
from script_project import ROOT

from pipelines.settings.keys import KEYS, with_keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "batch_size is 7; expected a multiple of 2",
            "training.batch_size is 7; expected a multiple of 2",
        ),
        ("path is missing; source 'shards'", "data.path is missing; source 'shards'"),
        (
            "min_width is 2; or divisor is 0",
            "network.min_width is 2; or network.divisor is 0",
        ),
        (
            "the loss is nan; learning_rate is 3: lower it",
            "the loss is nan; training.learning_rate is 3: lower it",
        ),
        ("it runs as it is: leaves=(Own,)", "it runs as it is: network.leaves=(Own,)"),
    ],
)
def test_an_argument_becomes_the_key_that_decides_it(text: str, expected: str) -> None:
    assert with_keys(text) == expected
    assert with_keys(expected) == expected, "what has its key already stays"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no space left on /batch/size",
        "finetune.learning_rate is 0; expected more",
        "'path is long' holds no images",
        "weights 'a.pt' do not fit 'resnet18'",
        "the path of a folder, or paths",
        "old_batch_size is 7; smallest_min_widths is 1",
        "own:net(num_classes=2, in_channels=3) fails with TypeError: unexpected 'in_channels'",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert with_keys(text) == text


@pytest.mark.parametrize("key", KEYS.values())
def test_every_key_is_one_of_params_yaml(key: str) -> None:
    settings: Any = yaml.safe_load((ROOT / "params.yaml").read_text())
    section = reduce(lambda inner, name: inner[name], key.split(".")[:-1], settings)
    assert key.split(".")[-1] in section
