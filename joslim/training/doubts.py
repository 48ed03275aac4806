"""What speaks against believing in a training, in sentences."""

from joslim.config import TrainingConfig
from joslim.search import Strategy
from joslim.search.joint import JointSearch

FEW_ROUNDS = 4
"""Rounds of proposals below which there is hardly a search."""

FAR = 1.5
"""Times the loss of a guess, above which a network was driven away and not just left behind."""


def doubt_of_search(num_steps: int, strategy: Strategy, config: TrainingConfig) -> str | None:
    """Why so many steps search nothing, or little; None if they do search."""
    if not (isinstance(strategy, JointSearch) and strategy.learns_while_training):
        return None
    rounds = -(-num_steps // config.steps_per_proposal)
    drawn = rounds * config.proposals_per_round
    # The first round knows no losses; the initial widths and the full ones are not searched for.
    searched = drawn - max(config.proposals_per_round, strategy.num_initial + 1)
    if rounds >= FEW_ROUNDS and searched > 0:
        return None
    found = (
        f"only {searched} of {drawn} width configurations are searched for"
        if searched > 0
        else "nothing is searched: all widths are drawn before enough of their losses are known"
    )
    return (
        f"steps_per_proposal is {config.steps_per_proposal}, and the training has {num_steps} "
        f"steps, so {found}; lower it, or train longer"
    )


def doubt_of_loss(loss: float, guess_loss: float, config: TrainingConfig) -> str | None:
    """Why a loss after the warm-up is that of a network that learns nothing; None if it is not.

    Args:
        loss: Of the full network on labels, a mean over some steps.
        guess_loss: Of a guess among all classes.
        config: Whose learning rate is blamed.
    """
    if loss < guess_loss:
        return None
    remedy = "lower the rate; smaller batches take smaller ones"
    if loss < FAR * guess_loss:
        remedy = "try a higher rate, or a lower one, or train longer"
    return (
        f"the loss is {loss:.3g}, and {guess_loss:.3g} is that of a guess: the network has learned "
        f"nothing so far. learning_rate is {config.learning_rate:g} and batch_size is "
        f"{config.batch_size}: {remedy}"
    )
