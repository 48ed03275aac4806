"""Hyperopt's tree of Parzen estimators on the scalarised objectives: for very many groups."""

import importlib.util
from typing import Any, ClassVar

import torch
from torch import Tensor

from joslim.errors import ConfigError
from joslim.search.joint import JointSearch
from joslim.search.proposal import BREACH, round_at_cost
from joslim.search.scalarization import REFERENCE, Reference, augmented_tchebyshev
from joslim.search.scalarization import tradeoff_weight_through as weight_through
from joslim.search.surface import project
from joslim.widths import Widths


class Tpe(JointSearch):
    """As Joslim, but each target cost's trade-off is handed to TPE, whose time grows with n · d.

    TPE knows nothing of costs, so what it suggests is shifted to the target.

    Sources: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011; Hyperopt. Its use
    for widths is ours.
    """

    name: ClassVar[str] = "tpe"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As every joint search.

        Raises:
            ConfigError: If Hyperopt is not installed.
        """
        super().__init__(*args, **kwargs)
        if importlib.util.find_spec("hyperopt") is None:
            raise ConfigError("strategy is 'tpe', which needs Hyperopt: pip install hyperopt")

    def _search(self, target_cost: float, generator: torch.Generator) -> Widths:
        X = self._cube.encode(self.history.widths).clamp(0, 1)
        seed = int(torch.randint(2**31, (), generator=generator))
        suggested = _suggest(X, self._scalarised(X, target_cost), seed).clamp(0, 1)
        nearby = project(suggested, self._cost_fraction, target_cost)

        def distance(points: Tensor) -> Tensor:
            broken = self.excess(self._cube.channels(points))
            return (points - nearby).square().sum(1) + BREACH * broken

        return round_at_cost(
            nearby,
            self._cube,
            self._cost_fraction,
            target_cost,
            preference=distance,
            avoid=set(self._pending),
            generator=generator,
        )

    def _cost_fraction(self, X: Tensor) -> Tensor:
        return self.cost.fraction(self._cube.channels(X))

    def _scalarised(self, X: Tensor, target_cost: float) -> Tensor:
        """T of all observations ``(n,)``, whose kink lies at the lowest loss within the target."""
        costs, losses = self._cost_fraction(X), self.history.losses
        mean, spread = costs.mean(), costs.std().clamp_min(1e-3)
        losses = (losses - losses.mean()) / losses.std().clamp_min(1e-9)
        within = losses[costs <= target_cost]
        lowest = (within if len(within) else losses).min().item()
        costs, target = (costs - mean) / spread, ((target_cost - mean) / spread).item()
        reference = Reference(
            min(REFERENCE, losses.min().item() - 1), min(REFERENCE, costs.min().item() - 1)
        )
        weight = weight_through(lowest, max(target, reference.cost + 1), reference)
        return augmented_tchebyshev(losses, costs, weight, reference)


def _suggest(X: Tensor, losses: Tensor, seed: int) -> Tensor:
    """TPE's next point ``(1, d)`` after the losses ``(n,)`` at ``X (n, d)``."""
    from hyperopt import Trials, hp, tpe
    from hyperopt.base import Domain

    names = [str(i) for i in range(X.shape[1])]
    domain = Domain(lambda _: 0.0, {name: hp.uniform(name, 0, 1) for name in names})
    trials = Trials()
    for tid, (point, loss) in enumerate(zip(X.tolist(), losses.tolist(), strict=True)):
        trials.insert_trial_doc(_observation(tid, dict(zip(names, point, strict=True)), loss))
    trials.refresh()
    (asked,) = tpe.suggest([len(X)], domain, trials, seed, n_startup_jobs=0)
    found = [asked["misc"]["vals"][name][0] for name in names]
    return torch.tensor([found], dtype=torch.float64)


def _observation(tid: int, values: dict[str, float], loss: float) -> dict[str, Any]:
    """A finished trial as Hyperopt keeps it."""
    from hyperopt import JOB_STATE_DONE, STATUS_OK

    return {
        "tid": tid, "state": JOB_STATE_DONE, "spec": None, "exp_key": None, "owner": None,
        "version": 0, "book_time": None, "refresh_time": None,
        "result": {"status": STATUS_OK, "loss": loss},
        "misc": {
            "tid": tid, "cmd": ("domain_attachment", "FMinIter_Domain"), "workdir": None,
            "idxs": {name: [tid] for name in values},
            "vals": {name: [value] for name, value in values.items()},
        },
    }  # fmt: skip
