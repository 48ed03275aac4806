import math

import pytest
from small_training import config, trainer

from joslim.training import doubt_of_loss, doubt_of_search


@pytest.mark.parametrize("name", ["joslim", "tpe"])
@pytest.mark.parametrize(
    ("num_steps", "changes", "found"),
    [
        (38, {"steps_per_proposal": 60}, "nothing is searched"),
        (60, {"steps_per_proposal": 60}, "nothing is searched"),
        (61, {"steps_per_proposal": 60}, "only 11 of 32 width configurations are searched for"),
        (180, {"steps_per_proposal": 60}, "only 27 of 48 width configurations are searched for"),
        (181, {"steps_per_proposal": 60}, None),
        (181, {"steps_per_proposal": 60, "proposals_per_round": 5}, "nothing is searched"),
    ],
)
def test_few_rounds_search_little(
    name: str, num_steps: int, changes: dict[str, int], found: str | None
) -> None:
    strategy = trainer(name).strategy
    doubt = doubt_of_search(num_steps, strategy, config(**{"proposals_per_round": 16, **changes}))
    if found is None:
        assert doubt is None
    else:
        assert doubt is not None
        assert doubt.startswith(
            f"steps_per_proposal is 60, and the training has {num_steps} steps, so {found}"
        )


@pytest.mark.parametrize("name", ["slim", "two-stage"])
def test_who_searches_nothing_in_training_is_not_doubted(name: str) -> None:
    assert doubt_of_search(1, trainer(name).strategy, config(steps_per_proposal=60)) is None


def test_what_was_searched_is_what_the_doubt_counts() -> None:
    """Proposals after the initial ones and the first round aim at costs, by losses."""
    run = trainer(epochs=4, steps_per_proposal=14, proposals_per_round=16)
    assert run.num_steps == 28
    doubt = doubt_of_search(run.num_steps, run.strategy, run.config)
    list(run.run())
    assert run.strategy.num_asked == 32
    assert doubt is not None
    assert f"only {32 - 21} of 32 " in doubt


def test_a_loss_above_that_of_a_guess_is_doubted() -> None:
    run = trainer()
    assert run.guess_loss == pytest.approx(math.log(10))
    assert doubt_of_loss(2.2, run.guess_loss, run.config) is None
    doubt = doubt_of_loss(32.0, run.guess_loss, run.config)
    assert doubt is not None
    assert doubt.startswith("the loss is 32, and 2.3 is that of a guess")
    assert "learning_rate is 0.05 and batch_size is 8: lower the rate" in doubt
    assert "lower the rate" in str(doubt_of_loss(math.nan, run.guess_loss, run.config))
    at_its_start = doubt_of_loss(2.38, run.guess_loss, run.config)
    assert str(at_its_start).endswith(": try a higher rate, or a lower one, or train longer")
