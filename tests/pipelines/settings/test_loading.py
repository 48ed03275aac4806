import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from script_project import ROOT
from settings_file import write

from joslim.config import TrainingConfig
from joslim.errors import ConfigError
from joslim.supernet.private import Private
from pipelines.settings.loading import load_params, read_params
from pipelines.settings.params import FinetuneParams
from pipelines.settings.register_params import register_params

TEXT = (ROOT / "params.yaml").read_text()
BUDGETS = TEXT[TEXT.index("budgets:") : TEXT.index("\ntune:")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "params.yaml is empty; expected the sections seed, data, network"),
        ("[1, 2]", "params.yaml: the file is [1, 2]; expected keys with values"),
        ("b: {c: 1, c: 2}", "c is given twice, in line 1; expected it once"),
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
def test_files_of_a_wrong_form_are_refused(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_params(file)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "  batch_size:",
            "  batchsize:",
            "training.batchsize is not a known key; did you mean training.batch_size?",
        ),
        (
            "min_width:",
            "minwidth:",
            "network.minwidth is not a known key; did you mean network.min_width?",
        ),
        (
            "  epochs: 5  ",
            "  processes: 2\n  epochs: 5  ",
            "training.processes is not a known key; did you mean execution.processes?",
        ),
        (
            "  epochs: 5  ",
            "  pets: 2\n  epochs: 5  ",
            "training.pets is not a known key",
        ),
    ],
)
def test_an_unknown_key_is_told_once_with_what_it_may_mean(
    file: Path, right: str, wrong: str, message: str
) -> None:
    assert TEXT.count(right) == 1
    file.write_text(TEXT.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        read_params(file)
    assert str(caught.value) == f"{file}: {message}"


def test_settings_of_before_are_told_where_their_keys_are_now(file: Path) -> None:
    settings = yaml.safe_load(TEXT)
    settings["training"] |= settings.pop("execution")
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError) as caught:
        read_params(file)
    text = str(caught.value)
    assert "execution is missing" in text
    for name in ("processes", "checkpoint_steps", "checkpoint_minutes"):
        assert f"training.{name} is not a known key; did you mean execution.{name}?" in text


def test_a_training_that_states_nothing_is_that_of_params_yaml(file: Path) -> None:
    settings = yaml.safe_load(TEXT)
    assert set(settings["training"]) == set(TrainingConfig.model_fields)
    settings["training"] = {}
    file.write_text(yaml.safe_dump(settings))
    assert read_params(file).training == read_params(ROOT / "params.yaml").training


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "execution",
            {"processes": 3},
            "training.batch_size is 128; expected a multiple of execution.processes, 3",
        ),
        (
            "training",
            {"proposals_per_round": 1},
            "training: proposals_per_round is 1; expected at least proposals_per_step, 2",
        ),
        (
            "tune",
            {"learning_rate": [1.0, 0.05]},
            "tune.learning_rate is [1, 0.05]; expected lowest < highest",
        ),
        ("tune", {"weight_decay": [0, 1]}, "tune.weight_decay starts at 0; expected more than 0"),
        ("execution", {"checkpoint_minutes": 0}, "execution.checkpoint_minutes is 0; input should"),
        ("data", {"background": None}, "data.background is None; expected a colour, as white, or"),
        (
            "data",
            {"background": "snow!"},
            "data.background is 'snow!'; expected a colour, as white",
        ),
    ],
)
def test_values_that_do_not_go_are_refused_by_key(
    file: Path, section: str, values: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_params(write(file, section, **values))
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_background_that_is_not_given_is_white(file: Path) -> None:
    settings = yaml.safe_load(TEXT)
    del settings["data"]["background"]
    file.write_text(yaml.safe_dump(settings))
    assert read_params(file).data.background == "white"
    assert read_params(write(file, "data", background="#a0b0c0")).data.background == "#a0b0c0"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"require": "worse"}, "register.require is 'worse'; input should be 'not-worse' or 'noth"),
        ({"required": "nothing"}, "register.required is not a known key"),
        ({"model_name": "a/b"}, "register.model_name is 'a/b'; expected letters, digits"),
        ({"model_name": "a:1"}, "register.model_name is 'a:1'; expected letters, digits"),
        ({"model_name": ""}, "register.model_name is ''; expected letters, digits"),
        ({"model_name": ".."}, "register.model_name is '..'; expected letters, digits"),
        ({"model_name": "it's"}, 'register.model_name is "it\'s"; expected letters, digits'),
        ({"model_name": 7}, "register.model_name is 7; input should be a valid string"),
    ],
)
def test_how_models_are_registered_is_checked(
    file: Path, section: dict[str, Any], message: str
) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(TEXT), "register": section}))
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_params(file)
    with pytest.raises(ConfigError, match=r"^register"):
        register_params(section)


def test_settings_without_a_section_for_the_registry_have_the_gate(file: Path) -> None:
    settings = yaml.safe_load(TEXT)
    del settings["register"]
    file.write_text(yaml.safe_dump(settings))
    assert read_params(file).registration == read_params(ROOT / "params.yaml").registration
    for name in ("joslim-blüten.v2", "A1", "9_lives"):
        file.write_text(yaml.safe_dump({**settings, "register": {"model_name": name}}))
        assert read_params(file).registration.model_name == name


def test_lighting_of_grey_images_is_refused(file: Path) -> None:
    assert read_params(write(file, "training", lighting=0.1)).training.augmentation.lighting == 0.1
    write(file, "data", channels=1)
    settings = yaml.safe_load(file.read_text())
    settings["training"]["lighting"] = 0.1
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"training.lighting is 0.1, but data.channels is 1; exp"):
        read_params(file)


def test_what_is_wrong_by_itself_is_told_before_anything_heavy_is_imported(file: Path) -> None:
    file.write_text(TEXT + "seed: 1\n")
    program = """
import sys
from pathlib import Path
from joslim.errors import ConfigError
from pipelines.settings.loading import load_params
try:
    load_params(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
    print(*{"torch", "numpy", "prefect", "mlflow"} & set(sys.modules))
"""
    command = [sys.executable, "-c", program, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    error, heavy = done.stdout.splitlines()
    assert "seed is given twice" in error
    assert heavy == ""


def test_what_a_budget_may_have_of_its_own_is_what_the_library_knows() -> None:
    assert FinetuneParams.model_fields["private"].annotation == Private


def test_a_latency_far_out_of_reach_is_refused(file: Path) -> None:
    write(file, "budgets", slow={"latency": "0.0001ms"})
    with pytest.raises(ConfigError, match=r"budgets.slow is latency <= 0.0001ms, but the smallest"):
        load_params(file)
    write(file, "budgets", slow={"latency": "1s"}, half={"latency": "100%"})
    load_params(file)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency": "3ms"}, r"search.limits is latency <= 3ms; expected macs, params, memory"),
        ({"params": "many"}, r"search.limits: budget params is 'many'; expected a number"),
        ({"macs": "1%"}, r"search.limits is macs <= 1%, but the smallest sub-network costs"),
    ],
)
def test_limits_that_cannot_hold_are_refused(
    file: Path, limits: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(write(file, "search", limits=limits))


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path: Path, file: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"another": torch.zeros(1)}, weights)
    write(file, "network", name="torchvision:resnet18", weights=str(weights))
    with pytest.raises(ConfigError, match=r"weights '.*weights.pt' do not fit 'resnet18'"):
        load_params(file)
    write(file, "network", name="resnet8", weights="IMAGENET1K_V1")
    with pytest.raises(
        ConfigError,
        match=r"network.weights is 'IMAGENET1K_V1', but 'resnet8' has none by name; expected a fi",
    ):
        load_params(file)


def test_errors_of_the_library_name_the_key_in_the_file(file: Path) -> None:
    write(file, "network", name="torchvision:resnet18")
    settings = yaml.safe_load(file.read_text())
    settings["data"]["channels"] = 1
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"network: data.channels is 1; expected 3, as torchvis"):
        load_params(file)
