"""Timing in turns, on a clock that the test winds."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from joslim.machine import turns
from joslim.machine.turns import ROUNDS, WARM_UP, Timing, doubts, time_in_turns

REPEATS = 20
TURNS = WARM_UP + REPEATS
ALONE = {"small": 0.001, "large": 0.003}
COSTS = {"small": (10.0, 20.0), "large": (30.0, 20.0)}


@dataclass
class Clock:
    """Stands in for the module `time`: seconds pass only when a test says so."""

    passed: float = 0.0
    computed: float = 0.0
    slept: float = 0.0

    def perf_counter(self) -> float:
        return self.passed

    def process_time(self) -> float:
        return self.computed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        self.slept += seconds

    def work(self, seconds: float, waiting: float = 0.0) -> None:
        """Compute for ``seconds``, and wait for a processor meanwhile."""
        self.passed += seconds + waiting
        self.computed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turns, "time", made)
    return made


class Machine:
    """Calls that take `ALONE`, and longer where ``disturb`` says so, by name and turn."""

    def __init__(self, clock: Clock, disturb: Callable[[Clock, str, int], None]) -> None:
        self.order: list[str] = []

        def call(name: str) -> None:
            turn = len(self.order) // len(ALONE)
            self.order.append(name)
            clock.work(ALONE[name])
            disturb(clock, name, turn)

        self.calls = {name: lambda name=name: call(name) for name in ALONE}

    @property
    def rounds(self) -> float:
        return len(self.order) / len(ALONE) / TURNS


def test_a_quiet_machine_is_measured_once(clock: Clock) -> None:
    machine = Machine(clock, lambda clock, name, turn: None)
    found = time_in_turns(machine.calls, COSTS, repeats=REPEATS)
    assert found["small"] == Timing(pytest.approx(1.0), pytest.approx(0.0))
    assert found["large"].milliseconds == pytest.approx(3.0)
    assert machine.rounds == 1
    assert clock.slept == 0


def test_calls_take_turns_in_changing_orders(clock: Clock) -> None:
    machine = Machine(clock, lambda clock, name, turn: None)
    time_in_turns(machine.calls, repeats=REPEATS)
    each_turn = {tuple(machine.order[i : i + 2]) for i in range(0, len(machine.order), 2)}
    assert each_turn == {("small", "large"), ("large", "small")}


def test_quartiles_tell_the_spread(clock: Clock) -> None:
    slower = [0.0, 0.0001, 0.0002, 0.0003]
    machine = Machine(clock, lambda clock, name, turn: clock.work(slower[turn % 4]))
    found = time_in_turns(machine.calls, repeats=REPEATS)
    assert found["large"].milliseconds == pytest.approx(3.15)
    assert found["large"].spread == pytest.approx(0.15 / 3.15)


@pytest.mark.parametrize("stolen", [0.0001, 0.1])
def test_a_busy_processor_is_noticed_and_measured_again(clock: Clock, stolen: float) -> None:
    """In the first round others have the processor for a tenth, or for nearly all of the time."""

    def disturb(clock: Clock, name: str, turn: int) -> None:
        if turn < TURNS:
            clock.work(0, waiting=3 * stolen)

    machine = Machine(clock, disturb)
    found = time_in_turns(machine.calls, COSTS, repeats=REPEATS)
    assert found["small"] == Timing(pytest.approx(1.0), pytest.approx(0.0))
    assert machine.rounds == 2
    assert clock.slept == pytest.approx(TURNS * (0.004 + 6 * stolen)), "as long as the round"


def test_a_processor_that_stays_busy_is_told(clock: Clock) -> None:
    machine = Machine(clock, lambda clock, name, turn: clock.work(0, waiting=ALONE[name] / 3))
    found = time_in_turns(machine.calls, COSTS, repeats=REPEATS)
    assert machine.rounds == ROUNDS
    reason = "the process waited for a processor in 25% of the time"
    assert doubts(found) == {reason: ["small", "large"]}


def test_slower_half_of_the_time_is_noticed_though_nothing_waits(clock: Clock) -> None:
    """As beside a process that takes the caches, or on a virtual machine that is not told."""

    def disturb(clock: Clock, name: str, turn: int) -> None:
        if name == "small" and turn < TURNS and turn % 2:
            clock.work(0.002)

    machine = Machine(clock, disturb)
    found = time_in_turns(machine.calls, repeats=REPEATS)
    assert machine.rounds == 2
    assert found["small"].milliseconds == pytest.approx(1.0)


@pytest.mark.parametrize(("last", "rounds"), [(TURNS, 2), (ROUNDS * TURNS, ROUNDS)])
def test_what_costs_less_and_takes_much_longer_is_measured_again(
    clock: Clock, last: int, rounds: int
) -> None:
    def disturb(clock: Clock, name: str, turn: int) -> None:
        if name == "small" and turn < last:
            clock.work(0.013)

    machine = Machine(clock, disturb)
    found = time_in_turns(machine.calls, COSTS, repeats=REPEATS)
    assert machine.rounds == rounds
    stays = {"it costs less than large, which takes 3 ms": ["small"]}
    assert doubts(found) == (stays if rounds == ROUNDS else {})
    assert found["small"].milliseconds == pytest.approx(14 if rounds == ROUNDS else 1)


def test_what_costs_less_of_one_thing_only_may_take_longer(clock: Clock) -> None:
    def disturb(clock: Clock, name: str, turn: int) -> None:
        if name == "small":
            clock.work(0.013)

    machine = Machine(clock, disturb)
    found = time_in_turns(machine.calls, {"small": (1, 2), "large": (2, 1)}, repeats=REPEATS)
    assert machine.rounds == 1
    assert doubts(found) == {}


def test_the_round_with_the_fewest_doubts_counts(clock: Clock) -> None:
    """The first round and the third are slow throughout, the second slows one call at times."""

    def disturb(clock: Clock, name: str, turn: int) -> None:
        number = turn // TURNS
        if number != 1 or (name == "small" and turn % 3 == 0):
            clock.work(0, waiting=0.005)

    found = time_in_turns(Machine(clock, disturb).calls, COSTS, repeats=REPEATS)
    assert found["large"] == Timing(pytest.approx(3.0), pytest.approx(0.0))
