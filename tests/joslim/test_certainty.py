import numpy as np
import pytest

from joslim.certainty import interval, is_guessing, largest_fall_by_chance


def test_the_interval_of_a_textbook() -> None:
    """81 of 263, Newcombe 1998, table I: Wilson's score interval without continuity correction."""
    assert interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_the_difference_of_a_textbook() -> None:
    """56 of 70 and 48 of 80, Newcombe 1998, table II, method 10: 0.0524 to 0.3339."""
    fall = largest_fall_by_chance(56 / 70, 70, 48 / 80, 80)
    assert 56 / 70 - 48 / 80 - fall == pytest.approx(0.0524, abs=5e-5)


@pytest.mark.parametrize("top1", [0.5, 0.9, 0.995])
def test_a_model_that_is_as_good_seldom_looks_worse(top1: float) -> None:
    rng = np.random.default_rng(0)
    before, now = rng.binomial(1000, top1, (2, 400)) / 1000
    worse = [
        b - n > largest_fall_by_chance(b, 1000, n, 1000) for b, n in zip(before, now, strict=True)
    ]
    assert sum(worse) / len(worse) < 0.05


def test_who_cannot_be_told_from_a_guess() -> None:
    assert is_guessing(0.17, 600, 1 / 6)
    assert is_guessing(0.19, 600, 1 / 6), "may be by chance"
    assert not is_guessing(0.25, 600, 1 / 6)
    assert is_guessing(0.25, 12, 1 / 6), "so few images tell nothing"
    assert is_guessing(0.0, 600, 0.1)
    assert not is_guessing(1.0, 600, 0.9)
