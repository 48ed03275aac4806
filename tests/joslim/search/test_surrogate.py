import json

import pytest
import torch

from joslim.search.surrogate import Surrogate


def observations(n, d, seed=0):
    X = torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return X, (2 * (X - 0.3).square()[:, :2] + 0.1 * X[:, :1]).sum(1, keepdim=True)


def cost(X):
    return 0.1 + 0.9 * X.mean(dim=1)


def fitted(X, Y, num_iterations=20):
    surrogate = Surrogate(X, Y, cost)
    surrogate.fit(num_iterations)
    return surrogate


def test_optimistic_is_botorchs_posterior_mean_minus_deviation():
    X, Y = observations(12, 3)
    surrogate = fitted(X, Y)
    new, _ = observations(5, 3, seed=1)
    posterior = surrogate.model.posterior(torch.cat([new, cost(new).log().unsqueeze(1)], dim=1))
    mean, variance = posterior.mean.squeeze(1), posterior.variance.squeeze(1)
    torch.testing.assert_close(surrogate.optimistic(new, beta=0.0), mean)
    torch.testing.assert_close(surrogate.optimistic(new, beta=0.1), mean - (0.1 * variance).sqrt())


def test_finds_the_little_that_cost_leaves_unexplained():
    X, _ = observations(100, 6)
    noise = torch.randn(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(X):
        return -cost(X).log() + 0.05 * X[:, 0]

    surrogate = fitted(X, (loss(X) + 0.005 * noise[:100]).unsqueeze(1), 50)
    new, _ = observations(100, 6, seed=1)
    predicted = surrogate.optimistic(new, beta=0.0) * loss(X).std() + loss(X).mean()
    left = predicted + cost(new).log()
    assert torch.corrcoef(torch.stack([left, new[:, 0]]))[0, 1] > 0.9


def test_predicts_a_smooth_loss_and_ranks_relevance():
    X, Y = observations(60, 6)
    surrogate = fitted(X, Y, 50)
    new, truth = observations(100, 6, seed=1)
    predicted = surrogate.optimistic(new, beta=0.0) * Y.std() + Y.mean()
    assert (predicted - truth.squeeze(1)).square().mean() < 0.01 * truth.var()
    lengthscales = surrogate.model.covar_module.kernels[0].base_kernel.lengthscale.squeeze()
    assert lengthscales[:2].max() < lengthscales[2:].min()


def test_gradient_is_right_beside_and_finite_at_observations():
    X, Y = observations(8, 3)
    surrogate = fitted(X, Y)
    new, _ = observations(4, 3, seed=1)
    assert torch.autograd.gradcheck(surrogate.optimistic, new.requires_grad_())
    at = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate.optimistic(at).sum(), at)
    assert gradient.isfinite().all()


def test_bound_does_not_depend_on_scale_or_offset_of_the_losses():
    X, Y = observations(10, 2)
    torch.testing.assert_close(
        fitted(X, Y).optimistic(X), fitted(X, 100 * Y - 7).optimistic(X), rtol=1e-4, atol=1e-4
    )


def test_hyperparameters_survive_json_exactly():
    X, Y = observations(15, 4)
    surrogate = fitted(X, Y)
    restored = Surrogate(X, Y, cost, json.loads(json.dumps(surrogate.hyperparameters)))
    assert torch.equal(restored.optimistic(X), surrogate.optimistic(X))


def test_a_warm_start_continues_instead_of_starting_over():
    X, Y = observations(30, 4)
    settled = fitted(X, Y, 200)
    resumed = Surrogate(X, Y, cost, settled.hyperparameters)
    resumed.fit(1)
    cold = fitted(X, Y, 1)
    new, _ = observations(20, 4, seed=1)
    expected = settled.optimistic(new)
    assert (resumed.optimistic(new) - expected).abs().max() < 1e-2
    assert (cold.optimistic(new) - expected).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("X", "Y"),
    [
        ([[0.0, 0.0], [1.0, 1.0]], [[2.0], [1.0]]),
        ([[0.5, 0.5]] * 3 + [[1.0, 0.0]], [[1.0], [1.2], [0.9], [0.5]]),
        ([[0.0, 1.0], [0.5, 0.2], [1.0, 0.3]], [[0.7]] * 3),
        ([[0.5, 0.5]] * 2, [[0.0]] * 2),
    ],
    ids=["two points", "duplicates", "constant loss", "nothing to learn"],
)
def test_degenerate_observations(X, Y):
    X = torch.tensor(X, dtype=torch.float64)
    surrogate = fitted(X, torch.tensor(Y, dtype=torch.float64))
    surrogate.fit(20)
    assert surrogate.optimistic(torch.rand(5, 2, dtype=torch.float64)).isfinite().all()
    assert surrogate.optimistic(X).isfinite().all()
