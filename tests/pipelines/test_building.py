from pathlib import Path

import pytest
from settings_file import write

from joslim.costs.latency import Latency
from pipelines.building import make_strategy, objective
from pipelines.settings.loading import load_params, read_params


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
