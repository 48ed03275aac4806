from pathlib import Path

import pytest
import torch
import yaml

from joslim.errors import ConfigError
from joslim.latency import Latency
from pipelines.objective import make_strategy, objective
from pipelines.params import load_params, read_params

SETTINGS = Path(__file__).resolve().parents[2] / "params.yaml"


def write(path: Path, section: str, **values: object) -> Path:
    settings = yaml.safe_load(SETTINGS.read_text())
    settings["data"] |= {"channels": 3, "image_size": 32}
    settings[section] |= values
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("name", ["macs", "params", "memory"])
def test_exact_costs(tmp_path: Path, name: str) -> None:
    params = read_params(write(tmp_path / "params.yaml", "search", objective=name))
    assert objective(params, params.network_spec(10).build()).name == name


def test_latency_is_measured_and_says_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    params = read_params(write(tmp_path / "params.yaml", "search", objective="latency"))
    cost = objective(params, params.network_spec(10).build())
    assert isinstance(cost, Latency)
    assert 0 < cost.smallest < cost.full
    assert f"median error of {cost.table.median_error:.1%}" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_latency_far_out_of_reach_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    write(file, "budgets", slow={"latency": "0.0001ms"})
    with pytest.raises(ConfigError, match=r"budgets.slow is latency <= 0.0001ms, but the smallest"):
        load_params(file)
    write(file, "budgets", slow={"latency": "1s"}, half={"latency": "100%"})
    load_params(file)


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"another": torch.zeros(1)}, weights)
    file = tmp_path / "params.yaml"
    write(file, "network", name="torchvision:resnet18", weights=str(weights))
    with pytest.raises(ConfigError, match=r"weights '.*weights.pt' do not fit 'resnet18'"):
        load_params(file)
    write(file, "network", name="resnet8", weights="IMAGENET1K_V1")
    with pytest.raises(ConfigError, match="'resnet8' has none by name; expected null, or"):
        load_params(file)


def test_limits_of_the_search(tmp_path: Path) -> None:
    file = write(tmp_path / "params.yaml", "search", limits={"memory": "50%", "params": "40k"})
    params = load_params(file)
    network = params.network_spec(10).build()
    strategy = make_strategy(params, network)
    (memory, most_bytes), (sizes, most_params) = strategy.limits
    assert (memory.name, sizes.name) == ("memory", "params")
    assert (most_bytes, most_params) == (0.5 * memory.full, 40_000)
    for _ in range(5):
        widths = strategy.ask()
        assert memory(widths) <= most_bytes
        assert sizes(widths) <= most_params


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"latency": "3ms"}, r"search.limits is latency <= 3ms; expected macs, params, memory"),
        ({"params": "many"}, r"search.limits: budget params is 'many'; expected a number"),
        ({"macs": "1%"}, r"search.limits is macs <= 1%, but the smallest sub-network costs"),
    ],
)
def test_limits_that_cannot_hold_are_refused(
    tmp_path: Path, limits: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(write(tmp_path / "params.yaml", "search", limits=limits))


def test_lighting_of_grey_images_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "params.yaml", "training", lighting=0.1)
    assert read_params(file).training.augmentation.lighting == 0.1
    write(file, "data", channels=1)
    settings = yaml.safe_load(file.read_text())
    settings["training"]["lighting"] = 0.1
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"training.lighting is 0.1, but data.channels is 1; exp"):
        read_params(file)
