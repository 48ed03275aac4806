"""The front: candidates over the whole cost range are measured, and the non-dominated ones kept.

The last step of the method. A candidate is a dense sub-network whose batch norm is recalibrated on
training images; it is measured on validation images.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from joslim import pareto
from joslim.data import Images
from joslim.data.memory_images import unit_range
from joslim.errors import DataError
from joslim.evaluation import Measurement, measure
from joslim.machine.device import training_device
from joslim.machine.memory_format import fast_memory_format
from joslim.search import Strategy
from joslim.supernet.batch_norm import even_batch, recalibrate_batchnorm
from joslim.supernet.network import SlimmableNetwork
from joslim.training.refresh import refresh_history
from joslim.widths import Widths

BATCH = 512
"""Images of one forward pass."""

MODELS_IN_MEMORY = 16
"""Sub-networks that are recalibrated in one pass over the images."""

Source = Literal["smallest", "full", "visited", "proposed"]
"""How a candidate was found: visited in training, or proposed afterwards."""


@dataclass(frozen=True)
class Candidate:
    """A measured width configuration.

    Attributes:
        widths: Channels per group.
        cost: Its objective, in the unit of the strategy's cost.
        measurement: On the validation images.
        source: How they were found.
    """

    widths: Widths
    cost: float
    measurement: Measurement
    source: Source


class Subnetworks:
    """Dense sub-networks of one supernet, ready to be measured.

    Attributes:
        network: The supernet, wherever it is.
        device: Where its sub-networks are: on the GPU, if there is one.
    """

    def __init__(self, network: SlimmableNetwork, train: Images, num_images: int = 2048) -> None:
        """Recalibrate batch norm by the first ``num_images`` of ``train``.

        Raises:
            DataError: If that are no images.
        """
        if num_images < 1 or len(train) == 0:
            raise DataError(f"num_images is {num_images} of {len(train)}; expected at least 1")
        self.network = network
        self.device = training_device()
        self._train = train
        self._calibration = train.subset(slice(num_images)).in_memory()

    def get(self, widths: Widths) -> nn.Module:
        """The sub-network with batch norm recalibrated on training images."""
        return self.get_all([widths])[0]

    def get_all(self, widths_list: Sequence[Widths]) -> list[nn.Module]:
        """Sub-networks, recalibrated in one pass over the images."""
        models = [self.network.extract(widths) for widths in widths_list]
        for model in models:
            model.to(self.device).to(memory_format=fast_memory_format(model))
        size = even_batch(len(self._calibration), BATCH)
        batches = self._calibration.batches(size, self.device)
        recalibrate_batchnorm(models, (images for images, _ in batches))
        return models

    def measure(self, model: nn.Module, images: Images) -> Measurement:
        """Measure one of these sub-networks on ``images``, in float32."""
        return measure(model, images.batches(BATCH, self.device))

    def held_out(self, num_images: int) -> Tensor:
        """The images by which training measures widths, on the device; the supernet moves there."""
        self.network.to(self.device)
        return unit_range(self._train.subset(slice(num_images)).in_memory().images, self.device)


def extract_front(
    network: SlimmableNetwork,
    strategy: Strategy,
    train: Images,
    val: Images,
    *,
    num_proposals: int = 60,
    calibration_images: int = 2048,
    refresh_images: int = 512,
) -> list[Candidate]:
    """Extract the front of a trained network: the candidates that no other one dominates.

    Args:
        network: As `joslim.training.Trainer` leaves it.
        strategy: That of its training.
        train: Training images.
        val: Images to measure by.
        num_proposals: As for `measure_candidates`.
        calibration_images: Training images for batch-norm statistics.
        refresh_images: As for `measure_candidates`.

    Returns:
        Measured candidates, cheapest first.
    """
    subnetworks = Subnetworks(network, train, calibration_images)
    measured = measure_candidates(
        subnetworks, strategy, val, num_proposals=num_proposals, refresh_images=refresh_images
    )
    candidates = cheapest_first(measured)
    on_front = zip(candidates, front_mask(candidates, strategy), strict=True)
    return [candidate for candidate, kept in on_front if kept]


def num_candidates(strategy: Strategy, num_proposals: int) -> int:
    """Most candidates that `measure_candidates` yields; fewer, where proposals repeat others."""
    return 2 + num_proposals + len(_best_visited(strategy))


def measure_candidates(
    subnetworks: Subnetworks,
    strategy: Strategy,
    val: Images,
    *,
    num_proposals: int = 60,
    refresh_images: int = 512,
) -> Iterator[Candidate]:
    """Measure the smallest and full network, the best visited ones, and fresh proposals.

    Args:
        subnetworks: Of the trained network.
        strategy: Proposes; one that searches after training is told the loss of each proposal.
        val: Images to measure by.
        num_proposals: Width configurations proposed, evenly over the whole cost range.
        refresh_images: First images of the training split, which training held out, to tell
            those losses by.
    """
    space = strategy.space
    sources: dict[Widths, Source] = {space.smallest: "smallest", space.full: "full"}
    for widths in _best_visited(strategy):
        sources.setdefault(widths, "visited")
    positions = torch.linspace(0, 1, num_proposals + 2)[1:-1].tolist()
    targets = [strategy.target_cost(position) for position in positions]
    if not strategy.search_after_training:
        for target in targets:
            sources.setdefault(strategy.ask(target_cost=target), "proposed")
        targets = []

    def candidate(widths: Widths, model: nn.Module) -> Candidate:
        measurement = subnetworks.measure(model, val)
        return Candidate(widths, strategy.cost(widths), measurement, sources[widths])

    unmeasured = list(sources)
    while unmeasured:
        batch, unmeasured = unmeasured[:MODELS_IN_MEMORY], unmeasured[MODELS_IN_MEMORY:]
        for widths, model in zip(batch, subnetworks.get_all(batch), strict=True):
            yield candidate(widths, model)
    if not targets:
        return
    held_out = subnetworks.held_out(refresh_images)
    for target in targets:
        widths = strategy.ask(target_cost=target)
        if widths not in sources:
            sources[widths] = "proposed"
            refresh_history(subnetworks.network, strategy, [widths], held_out)
            yield candidate(widths, subnetworks.get(widths))


def cheapest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates sorted by cost, and those of one cost by loss."""
    return sorted(candidates, key=lambda c: (c.cost, c.measurement.loss))


def front_mask(candidates: Sequence[Candidate], strategy: Strategy) -> list[bool]:
    """Which candidates keep the strategy's limits and are dominated by no other one that does.

    Of those that are equal in error and cost, the first one.
    """
    errors = torch.tensor([1 - c.measurement.top1 for c in candidates], dtype=torch.float64)
    spent = torch.tensor([c.cost for c in candidates], dtype=torch.float64)
    allowed = torch.tensor([strategy.keeps_limits(c.widths) for c in candidates])
    return pareto.front_mask(errors.masked_fill(~allowed, torch.nan), spent).tolist()


def hypervolume(front: Sequence[Candidate], strategy: Strategy) -> float:
    """Area that a front dominates: error, and cost relative to the full network's; in [0, 1]."""
    errors = torch.tensor([1 - c.measurement.top1 for c in front], dtype=torch.float64)
    fractions = torch.tensor([c.cost / strategy.cost.full for c in front], dtype=torch.float64)
    return pareto.hypervolume(errors, fractions, (1.0, 1.0))


def _best_visited(strategy: Strategy) -> list[Widths]:
    """Visited widths that nothing dominates under the final weights' held-out loss."""
    history = strategy.history
    if len(history) == 0:
        return []
    cost = torch.tensor([float(strategy.cost(widths)) for widths in history.widths])
    mask = pareto.front_mask(history.losses, cost.double())
    return [widths for widths, kept in zip(history.widths, mask.tolist(), strict=True) if kept]
