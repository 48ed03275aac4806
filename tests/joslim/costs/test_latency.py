"""The fit of operations' times, and what is predicted from it."""

from pathlib import Path

import pytest
import torch

import joslim
from joslim.costs import latency
from joslim.costs.latency import Latency, LatencyTable, load_or_measure, measure
from joslim.tracing import Operation, Part, Product


@pytest.fixture(scope="module")
def network() -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    model = joslim.networks.create("resnet8-half", 10, in_channels=1)
    return joslim.slimmable(model, torch.zeros(1, 1, 12, 12))


@pytest.fixture(scope="module")
def predicted(network: joslim.SlimmableNetwork) -> Latency:
    return Latency(network, measure(network))


def test_the_fit_finds_the_coefficients_that_made_the_times() -> None:
    width = Part(0, 1, 64)
    operation = Operation("layer", (Product(49, ((width,),)),), (Product(9, ((width,), (width,))),))
    widths_list = [(8,), (16,), (24,), (40,), (64,)]
    milliseconds = [0.02 + 3e-5 * 49 * n + 2e-6 * 9 * n * n for (n,) in widths_list]
    found = latency._fit(operation, widths_list, milliseconds)
    assert found == pytest.approx((0.02, 3e-5, 2e-6), rel=1e-6)
    cost = sum(term.at((32,)) for term in latency._terms(operation, found))
    assert cost == pytest.approx(0.02 + 3e-5 * 49 * 32 + 2e-6 * 9 * 32 * 32)


def test_every_operation_is_timed(network: joslim.SlimmableNetwork, predicted: Latency) -> None:
    names = [operation.name for operation in network.trace.operations]
    assert list(predicted.table.coefficients) == names
    assert all(min(found) >= 0 for found in predicted.table.coefficients.values())
    assert 0 < predicted.smallest < predicted.full
    assert predicted.table.median_error > 0


def test_predictions_are_vectorised_differentiable_and_never_fall(
    network: joslim.SlimmableNetwork, predicted: Latency
) -> None:
    generator = torch.Generator().manual_seed(0)
    widths_list = [network.space.random(generator) for _ in range(5)]
    counts = torch.tensor(widths_list, dtype=torch.float64, requires_grad=True)
    together = predicted(counts)
    assert together.tolist() == pytest.approx([predicted(widths) for widths in widths_list])
    together.sum().backward()
    assert counts.grad is not None
    assert (counts.grad >= 0).all()


def test_a_table_is_measured_once_per_network_and_device(
    network: joslim.SlimmableNetwork,
    predicted: Latency,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[str] = []

    def pretended(network: joslim.SlimmableNetwork) -> LatencyTable:
        measured.append(latency.device())
        return predicted.table

    monkeypatch.setattr(latency, "measure", pretended)
    first = load_or_measure(network, tmp_path)
    again = load_or_measure(network, tmp_path)
    assert len(measured) == 1
    assert first.full == again.full == pytest.approx(predicted.full)
    assert again.table.median_error == predicted.table.median_error
    monkeypatch.setattr(latency, "processor", lambda: "another processor")
    load_or_measure(network, tmp_path)
    assert len(measured) == 2
    assert len(list(tmp_path.glob("*.json"))) == 2
