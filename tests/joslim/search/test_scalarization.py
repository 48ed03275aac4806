import pytest
import torch

from joslim.search import Reference, augmented_tchebyshev
from joslim.search.scalarization import tradeoff_weight_through


class TestScalarization:
    def test_hand_worked(self):
        losses, costs = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
        T = augmented_tchebyshev(losses, costs, 0.25, Reference(-1.0, -2.0))
        torch.testing.assert_close(T, torch.tensor([1.5 + 2e-6, 1.0 + 1.75e-6]))

    def test_both_terms_are_equal_at_the_trade_off_through_a_point(self):
        reference = Reference(-3.0, -4.0)
        weight = tradeoff_weight_through(0.5, -1.0, reference)
        assert (1 - weight) * (0.5 - reference.loss) == pytest.approx(
            weight * (-1.0 - reference.cost)
        )

    def test_sweeping_the_trade_off_walks_along_the_front(self):
        costs = torch.linspace(0, 1, 101, dtype=torch.float64)
        losses = (1 - costs).square()
        for i in range(5, 100, 10):
            weight = tradeoff_weight_through(losses[i].item(), costs[i].item(), Reference())
            assert augmented_tchebyshev(losses, costs, weight, Reference()).argmin() == i
