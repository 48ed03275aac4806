"""The Gaussian process from widths to loss.

Shape legend (BoTorch's): ``X (n, d)`` widths in the unit cube, ``Y (n, 1)`` losses, minimised.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

with warnings.catch_warnings():
    # linear_operator still compiles two helpers with TorchScript when it is imported.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    import gpytorch
    from botorch.exceptions.warnings import OptimizationWarning
    from botorch.models import SingleTaskGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from botorch.settings import validate_input_scaling
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import Kernel, ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior

Hyperparameters = dict[str, Any]
"""Lengthscales, noise and mean: nested lists of numbers by parameter name."""

BETA = 0.1
"""Weight of the variance in the optimistic bound. Source: Joslim."""


MOST_FITTED = 256
"""Observations that decide the hyperparameters; more of them cost their cube, and change little."""


COST_VARIANCE, SHAPE_VARIANCE, NOISE_VARIANCE = 1.0, 0.1, 1e-3
"""Their most probable values before there are observations, of standardised losses."""

SPREAD = 2.0
"""Standard deviation of the logarithm of a variance under its prior."""


class Surrogate:
    """A Gaussian process with exact inference in float64.

    Nearly all of a loss follows from the cost, and what tells widths of one cost apart is small. So
    the kernel is a sum: Matérn 5/2 of the logarithm of the cost, and Matérn 5/2 of the widths with
    one lengthscale per dimension. Each has its variance. Were they one, the first part would set
    the scale of noise and of curiosity for the second. The prior of the lengthscales grows with the
    square root of d, so that dozens of dimensions neither overfit nor flatten out; those of the
    variances are wide.

    Source of the prior: Hvarfner et al., *Vanilla Bayesian Optimization Performs Great in High
    Dimensions*, ICML 2024; as in BoTorch. Deviates: the sum, and a lower noise.

    Args:
        X: At least two points of the unit cube, shape ``(n, d)``.
        Y: Their losses, shape ``(n, 1)``; standardised inside.
        cost: Maps points ``(m, d)`` of the cube to positive costs ``(m,)``.
        hyperparameters: Of an earlier surrogate over the same space, to start from; without
            them the prior's modes.
    """

    def __init__(
        self,
        X: Tensor,
        Y: Tensor,
        cost: Callable[[Tensor], Tensor],
        hyperparameters: Hyperparameters | None = None,
    ) -> None:
        self._cost = cost
        X, Y = X.detach().double(), Y.detach().double()
        spread = Y.std()
        # Constant losses have no scale of their own; any one will do.
        spread = spread if spread > 1e-9 * Y.abs().max() else torch.ones_like(spread)
        d = X.shape[-1]
        of_widths = _matern(SHAPE_VARIANCE, range(d))
        of_cost = _matern(COST_VARIANCE, [d])
        with validate_input_scaling(False):
            self.model: Any = SingleTaskGP(
                self._with_cost(X),
                (Y - Y.mean()) / spread,
                covar_module=of_widths + of_cost,
                likelihood=GaussianLikelihood(
                    noise_prior=_around(NOISE_VARIANCE),
                    noise_constraint=_positive(NOISE_VARIANCE),
                ),
                outcome_transform=None,
            )
        if hyperparameters is not None:
            for name, parameter in self.model.named_parameters():
                parameter.data = torch.tensor(hyperparameters[name], dtype=torch.float64)
        self._condition()

    @property
    def hyperparameters(self) -> Hyperparameters:
        return {name: value.tolist() for name, value in self.model.named_parameters()}

    @torch.enable_grad()
    def fit(self, num_iterations: int) -> None:
        """Move the hyperparameters towards their most probable values by L-BFGS.

        Of more than 256 observations, every second, third, … one is looked at; predictions rest on
        all of them.
        """
        self.model.train().requires_grad_()
        X, Y = self.model.train_inputs[0], self.model.train_targets
        chosen = torch.linspace(0, len(X) - 1, min(len(X), MOST_FITTED)).round().long()
        self.model.set_train_data(X[chosen], Y[chosen], strict=False)
        likelihood = ExactMarginalLogLikelihood(self.model.likelihood, self.model)
        with (
            warnings.catch_warnings(),
            validate_input_scaling(False),
            gpytorch.settings.max_cholesky_size(1_000_000),
        ):
            # A line search that ends early leaves valid hyperparameters behind.
            warnings.simplefilter("ignore", OptimizationWarning)
            fit_gpytorch_mll_scipy(likelihood, options={"maxiter": num_iterations})
        self.model.set_train_data(X, Y, strict=False)
        self._condition()

    def optimistic(self, X: Tensor, beta: float = BETA) -> Tensor:
        """The optimistic bound μ − √β·σ of the loss at ``X (m, d)``, differentiable in ``X``.

        Returns:
            Shape ``(m,)``, in standard deviations of the observed losses from their mean.
        """
        cross = self.model.covar_module(self._X, self._with_cost(X)).to_dense()
        mean = self._mean + self._weights @ cross
        explained = torch.linalg.solve_triangular(self._cholesky, cross, upper=False)
        variance = (self._prior_variance - explained.square().sum(dim=0)).clamp_min(1e-12)
        return mean - (beta * variance).sqrt()

    def _with_cost(self, X: Tensor) -> Tensor:
        """Points with the logarithm of their cost, ``(m, d + 1)``."""
        return torch.cat([X, self._cost(X).log().unsqueeze(-1)], dim=-1)

    @torch.no_grad()
    def _condition(self) -> None:
        """Factorise once for many calls of `optimistic`: faster than as many posteriors."""
        self.model.eval().requires_grad_(False)
        self._X = self.model.train_inputs[0]
        covariance = self.model.covar_module(self._X).to_dense()
        self._prior_variance = covariance[0, 0]
        noise = self.model.likelihood.noise * torch.eye(len(self._X), dtype=torch.float64)
        self._cholesky = torch.linalg.cholesky(covariance + noise)
        self._mean = self.model.mean_module.constant
        residual = (self.model.train_targets - self._mean).unsqueeze(-1)
        self._weights = torch.cholesky_solve(residual, self._cholesky).squeeze(-1)


def _matern(variance: float, dimensions: Sequence[int]) -> Kernel:
    """Matérn 5/2 of some dimensions, with a variance of its own."""
    kernel = get_covar_module_with_dim_scaled_prior(
        len(dimensions), use_rbf_kernel=False, active_dims=dimensions
    )
    return ScaleKernel(
        kernel, outputscale_prior=_around(variance), outputscale_constraint=_positive(variance)
    )


def _around(mode: float) -> LogNormalPrior:
    """A prior that leaves it to the data which order of magnitude a variance has."""
    return LogNormalPrior(math.log(mode) + SPREAD**2, SPREAD)


def _positive(start: float) -> GreaterThan:
    return GreaterThan(1e-6, transform=None, initial_value=start)
