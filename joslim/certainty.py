"""How far an accuracy that was measured on so many images can be trusted."""

from math import hypot

CONFIDENCE = 0.95


def interval(top1: float, num_images: int) -> tuple[float, float]:
    """Where the top-1 on all images of the kind is, as so many of them say: 95 %, by Wilson."""
    from scipy.stats import binomtest

    hits = round(top1 * num_images)
    low, high = binomtest(hits, num_images).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def largest_fall_by_chance(before: float, num_before: int, now: float, num_now: int) -> float:
    """How far ``now`` may lie below ``before`` though the model is as good: 95 %.

    As if both were measured on images of their own: on the same images, the true error is smaller.

    Source: Newcombe, Interval Estimation for the Difference Between Independent Proportions, 1998,
    method 10.
    """
    return hypot(before - interval(before, num_before)[0], interval(now, num_now)[1] - now)


def is_guessing(top1: float, num_images: int, guess: float) -> bool:
    """Whether a top-1 on so many images is at most that of a guess, or may be by chance."""
    return interval(top1, num_images)[0] <= guess
