"""What is told of a step of training."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TrainingStep:
    """What happened in one step.

    Attributes:
        step: Steps done, from 1.
        num_steps: Steps of the whole training.
        epoch: Epochs done, as a fraction.
        learning_rate: Of this step.
        full_loss: On the labels, in nats.
        smallest_loss: Of the smallest network, to labels and the full one's predictions.
        proposals_loss: Mean over the proposals, likewise.
        num_visited: Width configurations with known losses or in training now.
        history_hypervolume: Of their losses in the latest round of proposals, as
            `Trainer.history_hypervolume`.
    """

    step: int
    num_steps: int
    epoch: float
    learning_rate: float
    full_loss: float
    smallest_loss: float
    proposals_loss: float
    num_visited: int
    history_hypervolume: float

    def numbers(self) -> dict[str, float]:
        """All but the two step counts."""
        return {k: v for k, v in asdict(self).items() if k not in ("step", "num_steps")}
