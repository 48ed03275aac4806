"""Joint training of shared weights and widths: a search strategy around sandwich steps."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from joslim import costs, distributed
from joslim.config import TrainingConfig
from joslim.data import Images, TrainingStream
from joslim.data.memory_images import unit_range
from joslim.errors import CheckpointError, DataError, DivergenceError
from joslim.machine.device import training_device, training_precision
from joslim.machine.memory_format import fast_memory_format
from joslim.machine.mixed_precision import suited_to_autocast
from joslim.search import Strategy
from joslim.supernet.network import SlimmableNetwork
from joslim.training.averaging import averaged
from joslim.training.checkpoint import load_checkpoint, save_checkpoint
from joslim.training.optimizer import learning_rate_at, make_optimizer
from joslim.training.refresh import refresh_history
from joslim.training.sandwich import sandwich_step
from joslim.training.training_step import TrainingStep
from joslim.widths import Widths

EARLY_SHARE = 0.8
"""Of what measuring width configurations may take: the rest is for the final weights."""


class Trainer:
    """Alternates between proposing widths and training them.

    Attributes:
        step: Steps done.
        num_steps: Steps of the whole training.
        num_images: Images trained on: without those held out.
        guess_loss: Of a guess among all classes, ln(classes).
        history_hypervolume: `Strategy.hypervolume` below `guess_loss`; as of the latest round, and
            0 before there are losses.
    """

    def __init__(
        self,
        network: SlimmableNetwork,
        strategy: Strategy,
        data: Images,
        config: TrainingConfig,
        *,
        seed: int,
    ) -> None:
        """Prepare the training of ``network`` in place.

        Raises:
            DataError: If too few images are left beside the held-out ones.
        """
        if len(data) <= config.refresh_images:
            raise DataError(
                f"refresh_images is {config.refresh_images}, but there are only "
                f"{len(data)} training images; lower it, so that images are left to train on"
            )
        self._layout = fast_memory_format(network.extract(network.space.smallest))
        self._device = training_device()
        self._precision = training_precision(config.precision, self._device)
        self.network = network.to(self._device).to(memory_format=self._layout)
        self._parallel = distributed.data_parallel(self._for_training(network))
        self.strategy = strategy
        self.config = config
        self.num_images = len(data) - config.refresh_images
        self._held_out: Images = data.subset(slice(0, config.refresh_images))
        self._stream = TrainingStream(
            data.subset(slice(config.refresh_images, None)),
            config.batch_size,
            seed=seed,
            augmentation=config.augmentation,
            rank=distributed.rank(),
            size=distributed.world_size(),
            device=self._device,
        )
        self._optimizer = make_optimizer(network, config)
        self._average = averaged(network, config.weight_average) if config.weight_average else None
        self._teacher: nn.Module | None = None
        if config.distillation_teacher == "average":
            assert self._average is not None
            self._teacher = self._for_training(self._average)
        self._macs = costs.macs(network)
        self._seed = seed
        self.guess_loss = math.log(max(2, len(data.labels.unique())))
        self.history_hypervolume = 0.0
        self._visited: list[Widths] = []
        self._proposals: list[Widths] = []
        self.step = 0
        self.num_steps = config.epochs * self._stream.steps_per_epoch
        # Who learns nothing from a round draws at every step, as published, and looks back at as
        # many width configurations as the others.
        learns = strategy.learns_while_training
        self._steps_per_proposal = config.steps_per_proposal if learns else 1
        self._proposals_per_round = (
            config.proposals_per_round if learns else config.proposals_per_step
        )
        self._num_rounds = -(-self.num_steps // config.steps_per_proposal)
        self._most_visited = config.proposals_per_round * self._num_rounds
        self._early_share = EARLY_SHARE if learns else 0.0

    def run(
        self,
        checkpoint: Path | None = None,
        *,
        checkpoint_steps: int = 100,
        checkpoint_minutes: float = 10,
    ) -> Iterator[TrainingStep]:
        """Train to the end, yielding after every step; from ``checkpoint`` if it exists.

        Afterwards the network has the averaged weights, if there are any, and the strategy's
        history holds losses under the final weights, as `refresh_history` tells them. Of several
        processes all measure, but the first one alone proposes and saves.

        Args:
            checkpoint: File from which to continue, and in which to save; None saves nothing.
            checkpoint_steps: Most steps between two checkpoints.
            checkpoint_minutes: Most minutes between two checkpoints.

        Raises:
            CheckpointError: If the checkpoint and the one before it are damaged.
            DivergenceError: If a loss is not finite; the last checkpoint is of before.
        """
        if checkpoint is not None and (state := load_checkpoint(checkpoint)) is not None:
            self.load_state_dict(state, checkpoint)
        self.network.train()
        self._parallel.train()
        if self._teacher is not None:
            self._teacher.train()
        saved_step, saved_at = self.step, time.monotonic()
        while self.step < self.num_steps:
            if self.step % self._steps_per_proposal == 0:
                self._propose()
            yield self._train_step()
            is_due = (
                self.step - saved_step >= checkpoint_steps
                or time.monotonic() - saved_at >= 60 * checkpoint_minutes
            )
            if checkpoint is not None and is_due:
                if distributed.rank() == 0:
                    save_checkpoint(checkpoint, self.state_dict())
                saved_step, saved_at = self.step, time.monotonic()
        if self._average is not None:
            self.network.load_state_dict(self._served.state_dict())
        self._refresh(self._num_rounds * (1 - self._early_share) * self._macs_of_refresh())

    def _propose(self) -> None:
        if self.strategy.learns_while_training:
            self._refresh(self._early_share * self._macs_of_refresh())
        if distributed.rank() == 0:
            self._proposals = [self.strategy.ask() for _ in range(self._proposals_per_round)]
        self._proposals = distributed.broadcast(self._proposals)
        visited = list(dict.fromkeys([*self._visited, *self._proposals]))
        self._visited = visited[-self._most_visited :]

    def _turn(self) -> list[Widths]:
        """The proposals to be trained in this step."""
        count, first = len(self._proposals), self.step * self.config.proposals_per_step
        return [self._proposals[(first + i) % count] for i in range(self.config.proposals_per_step)]

    def _macs_of_refresh(self) -> float:
        """Allowed for each round: a fraction of those of training at visited widths."""
        visited = torch.tensor(self._visited, dtype=torch.float64)
        proposal = self._macs(visited).mean().item() if self._visited else 0.0
        # A backward pass takes two forward ones.
        per_image = 3 * (
            self._macs.full + self._macs.smallest + self.config.proposals_per_step * proposal
        )
        of_training = self.config.steps_per_proposal * self.config.batch_size * per_image
        return self.config.refresh_fraction * of_training

    def _for_training(self, network: nn.Module) -> nn.Module:
        """A twin whose convolutions suit the precision, and whose batch norms are joint ones."""
        suited = suited_to_autocast(network, self._device, self._precision)
        return distributed.with_joint_batchnorm(suited)

    @property
    def _served(self) -> SlimmableNetwork:
        """Whose weights training would end with if it ended now."""
        if self._average is None:
            return self.network
        return cast(SlimmableNetwork, self._average.module)

    def _refresh(self, max_macs: float) -> None:
        held_out = self._held_out = self._held_out.in_memory()
        images = unit_range(held_out.images)
        self._visited = refresh_history(
            self._served,
            self.strategy,
            self._visited,
            images.to(self._device, memory_format=self._layout),
            max_macs=max_macs,
        )
        self.history_hypervolume = self.strategy.hypervolume(self.guess_loss)

    def _train_step(self) -> TrainingStep:
        torch.manual_seed(self._seed + self.step + distributed.rank() * self.num_steps)
        learning_rate = learning_rate_at(self.step, self.num_steps, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        images, labels = self._stream.batch(self.step)
        self._optimizer.zero_grad()
        full_loss, smallest_loss, *losses = sandwich_step(
            self._parallel,
            images.to(memory_format=self._layout),
            labels,
            [self.network.space.smallest, *self._turn()],
            subnetwork_weight=self.config.subnetwork_weight,
            distillation_weight=self.config.distillation_weight,
            divergence=self.config.distillation_divergence,
            label_smoothing=self.config.label_smoothing,
            teacher=self._teacher,
            precision=self._precision,
        )
        if not all(map(math.isfinite, (full_loss, smallest_loss, *losses))):
            raise DivergenceError(
                f"the loss of step {self.step} is {full_loss} in full, {smallest_loss} at the "
                f"smallest widths; learning_rate is {self.config.learning_rate}: lower it"
            )
        if self.config.max_gradient_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        self.step += 1
        return TrainingStep(
            step=self.step,
            num_steps=self.num_steps,
            epoch=self.step / self._stream.steps_per_epoch,
            learning_rate=learning_rate,
            full_loss=full_loss,
            smallest_loss=smallest_loss,
            proposals_loss=sum(losses) / len(losses),
            num_visited=len(self._visited),
            history_hypervolume=self.history_hypervolume,
        )

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen for this machine: device, precision, memory layout."""
        chosen = {"device": self._device, "precision": self._precision, "layout": self._layout}
        return {name: str(value).removeprefix("torch.") for name, value in chosen.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "step": self.step,
            "num_steps": self.num_steps,
            "seed": self._seed,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average and self._average.state_dict(),
            "strategy": self.strategy.state_dict(),
            "visited": self._visited,
            "proposals": self._proposals,
        }

    def load_state_dict(self, state: dict[str, Any], source: Path) -> None:
        """Continue where `state_dict` was taken; ``source`` is named in errors."""
        for name, own in (("num_steps", self.num_steps), ("seed", self._seed)):
            if state.get(name, own) != own:
                raise CheckpointError(
                    f"checkpoint {source} is of a training with {name} {state[name]}; expected "
                    f"{own}; delete it to start anew"
                )
        try:
            self.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.strategy.load_state_dict(state["strategy"])
            self._visited = [tuple(widths) for widths in state["visited"]]
            self._proposals = [tuple(widths) for widths in state["proposals"]]
            self.step = state["step"]
            self.history_hypervolume = self.strategy.hypervolume(self.guess_loss)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint {source} does not fit this training: {error}; delete it to start anew"
            ) from error
