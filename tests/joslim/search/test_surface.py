import torch
from chains import ChainCost, chain

from joslim.search.cube import WidthCube
from joslim.search.surface import minimise, project


class TestSurface:
    def test_projection_hits_the_target_and_fixes_points_on_the_surface(self):
        cube, cost = WidthCube(chain(5)), ChainCost(chain(5))

        def fraction(X):
            return cost.fraction(cube.channels(X))

        X = torch.rand(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for target in (fraction(0 * X[:1]).item(), 0.3, 0.9, 1.0):
            projected = project(2 * X - 0.5, fraction, target)
            torch.testing.assert_close(
                fraction(projected), torch.full((50,), target).double(), atol=1e-5, rtol=0
            )
            torch.testing.assert_close(
                project(projected, fraction, target), projected, atol=1e-5, rtol=0
            )

    def test_minimise_solves_a_linear_programme(self):
        """Linear loss and cost make a fractional knapsack: fill the best gain per cost first."""
        gain = torch.tensor([5.0, 1.0, 4.0, 2.0], dtype=torch.float64)
        price = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
        X = torch.rand(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        X = project(X, lambda X: X @ price, 0.5)
        X, values = minimise(X, lambda X: -X @ gain, lambda X: X @ price, 0.5, 40)
        best = torch.tensor([1.0, 0.0, 1.0, 2 / 3], dtype=torch.float64)
        torch.testing.assert_close(X[values.argmin()], best, atol=1e-4, rtol=0)
        assert values.max() < -10.3

    def test_minimise_goes_no_farther_than_its_reach(self):
        gain = torch.tensor([5.0, 1.0, 4.0, 2.0], dtype=torch.float64)
        price = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
        start = torch.full((1, 4), 0.5, dtype=torch.float64)
        X, _ = minimise(start, lambda X: -X @ gain, lambda X: X @ price, 0.5, 40, reach=0.1)
        # By gain per cost: the best two rise as far as allowed, the worst falls so,
        # and one gets the rest.
        best = torch.tensor([[0.6, 0.4, 0.6, 0.5 + 1 / 30]], dtype=torch.float64)
        assert (X - start).abs().max() <= 0.1 + 1e-9
        torch.testing.assert_close(X @ price, torch.tensor([0.5]).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(X, best, atol=1e-3, rtol=0)
