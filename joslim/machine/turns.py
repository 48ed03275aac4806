"""What calls take when they take turns, and whether the machine was quiet enough to tell.

Needs the standard library only: a copy of this file goes into every bundle.
"""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

WARM_UP = 3
"""First turns of a round, which are not counted."""

ROUNDS = 3
"""So often is measured at most; the quietest round counts."""

MOST_WAITING = 0.1
"""Share of the time in which the process may wait for a processor."""

WIDEST_SPREAD = 0.25
"""Largest `Timing.spread` that is no doubt."""

OUT_OF_ORDER = 1.5
"""How many times as long as what costs more a call may take. Below, a narrower layer may really be
slower: its channels fill the processor's vectors less evenly."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Timing:
    """What a call took.

    Attributes:
        milliseconds: The median.
        spread: From the first quartile to the third, as a fraction of the median.
        doubt: Why the call may be faster than that; empty if nothing speaks for it.
    """

    milliseconds: float
    spread: float
    doubt: str = ""


def time_in_turns(
    calls: Mapping[Key, Callable[[], object]],
    costs: Mapping[Key, Sequence[float]] | None = None,
    *,
    repeats: int = 30,
) -> dict[Key, Timing]:
    """Time calls in turns, again where something disturbed them.

    Each turn has an order of its own, so that what else the machine does from time to time slows
    all calls alike. A round of turns is in doubt if the process waited for a processor, if a call's
    times differ much, or if a call took much longer than another one that costs more. Then, after a
    pause as long as the round, it is done again.

    Args:
        calls: What is timed, by name.
        costs: What each call costs, as MACs and bytes. One that costs no more of anything than
            another, and less of something, should not be slower.
        repeats: Turns of a round.

    Returns:
        Those of the round with the fewest doubts.
    """
    best: dict[Key, Timing] = {}
    for number in range(ROUNDS):
        start = time.perf_counter()
        found = _round(calls, costs or {}, repeats)
        best = min(best or found, found, key=_rank)
        if number == ROUNDS - 1 or not any(timing.doubt for timing in best.values()):
            break
        time.sleep(time.perf_counter() - start)
    return best


def doubts(timings: Mapping[Key, Timing]) -> dict[str, list[Key]]:
    """The doubts of timings, each with those that it is about."""
    found: dict[str, list[Key]] = {}
    for key, timing in timings.items():
        if timing.doubt:
            found.setdefault(timing.doubt, []).append(key)
    return found


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def today() -> str:
    """The date in UTC, as ``2026-01-31``."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def _round(
    calls: Mapping[Key, Callable[[], object]], costs: Mapping[Key, Sequence[float]], repeats: int
) -> dict[Key, Timing]:
    shuffled = random.Random(0)
    times: dict[Key, list[float]] = {key: [] for key in calls}
    computing = []
    for _ in range(WARM_UP + repeats):
        start, used = time.perf_counter(), time.process_time()
        for key in shuffled.sample(list(calls), len(calls)):
            begin = time.perf_counter()
            calls[key]()
            times[key].append(1000 * (time.perf_counter() - begin))
        computing.append((time.process_time() - used) / (time.perf_counter() - start))
    waiting = 1 - statistics.median(computing[WARM_UP:])
    timings = {key: _timing(taken[WARM_UP:], waiting) for key, taken in times.items()}
    return {
        key: replace(timing, doubt=timing.doubt or _order(key, timings, costs))
        for key, timing in timings.items()
    }


def _timing(milliseconds: Sequence[float], waiting: float) -> Timing:
    median = statistics.median(milliseconds)
    low, _, high = statistics.quantiles(milliseconds, n=4, method="inclusive")
    spread = (high - low) / median
    doubt = ""
    if waiting > MOST_WAITING:
        doubt = f"the process waited for a processor in {waiting:.0%} of the time"
    elif spread > WIDEST_SPREAD:
        doubt = f"the middle half of its times spreads over {spread:.0%} of the median"
    return Timing(median, spread, doubt)


def _order(key: Key, timings: Mapping[Key, Timing], costs: Mapping[Key, Sequence[float]]) -> str:
    """The doubt in a call that took much longer than one that costs more; empty without."""
    own, taken = costs.get(key, ()), timings[key].milliseconds
    for other, theirs in costs.items():
        more = timings[other].milliseconds
        is_cheaper = own != theirs and all(a <= b for a, b in zip(own, theirs, strict=True))
        if is_cheaper and taken > OUT_OF_ORDER * more:
            return f"it costs less than {other}, which takes {more:.3g} ms"
    return ""


def _rank(timings: Mapping[Key, Timing]) -> tuple[int, float]:
    """Lower is better: fewer doubts, then less time."""
    in_doubt = sum(bool(timing.doubt) for timing in timings.values())
    return in_doubt, sum(timing.milliseconds for timing in timings.values())
