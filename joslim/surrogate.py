"""The Gaussian process from widths to loss.

Shape legend (BoTorch's): ``X (n, d)`` widths in the unit cube, ``Y (n, 1)`` losses, minimised.
"""

import warnings
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
    from gpytorch.mlls import ExactMarginalLogLikelihood

Hyperparameters = dict[str, Any]
"""Lengthscales, noise and mean: nested lists of numbers by parameter name."""

BETA = 0.1
"""Weight of the variance in the optimistic bound. Source: Joslim."""


MOST_FITTED = 256
"""Observations that decide the hyperparameters; more of them cost their cube, and change little."""


class Surrogate:
    """A Gaussian process with exact inference in float64.

    The kernel is Matérn 5/2 with one lengthscale per dimension under a prior that grows with
    the square root of d, so that dozens of dimensions neither overfit nor flatten out.
    Source of the prior: Hvarfner et al., *Vanilla Bayesian Optimization Performs Great in
    High Dimensions*, ICML 2024; as in BoTorch.

    Args:
        X: At least two points of the unit cube, shape ``(n, d)``.
        Y: Their losses, shape ``(n, 1)``; standardised inside.
        hyperparameters: Of an earlier surrogate over the same space, to start from; without
            them the prior's modes.
    """

    def __init__(self, X: Tensor, Y: Tensor, hyperparameters: Hyperparameters | None = None):
        X, Y = X.detach().double(), Y.detach().double()
        spread = Y.std()
        # Constant losses have no scale of their own; any one will do.
        spread = spread if spread > 1e-9 * Y.abs().max() else torch.ones_like(spread)
        with validate_input_scaling(False):
            self.model: Any = SingleTaskGP(
                X,
                (Y - Y.mean()) / spread,
                covar_module=get_covar_module_with_dim_scaled_prior(
                    ard_num_dims=X.shape[-1], use_rbf_kernel=False
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
        cross = self.model.covar_module(self._X, X).to_dense()
        mean = self._mean + self._weights @ cross
        explained = torch.linalg.solve_triangular(self._cholesky, cross, upper=False)
        variance = (1.0 - explained.square().sum(dim=0)).clamp_min(1e-12)
        return mean - (beta * variance).sqrt()

    @torch.no_grad()
    def _condition(self) -> None:
        """Factorise once for many calls of `optimistic`: faster than as many posteriors."""
        self.model.eval().requires_grad_(False)
        self._X = self.model.train_inputs[0]
        covariance = self.model.covar_module(self._X).to_dense()
        noise = self.model.likelihood.noise * torch.eye(len(self._X), dtype=torch.float64)
        self._cholesky = torch.linalg.cholesky(covariance + noise)
        self._mean = self.model.mean_module.constant
        residual = (self.model.train_targets - self._mean).unsqueeze(-1)
        self._weights = torch.cholesky_solve(residual, self._cholesky).squeeze(-1)
