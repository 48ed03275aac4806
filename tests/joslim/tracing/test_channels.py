"""The algebra of channels: ties, cuts and units, on hand-worked dimensions."""

import pytest

from joslim.tracing.channels import Channels, Runs, Unfollowed, count, fixed, resolve, size_of


@pytest.fixture
def channels() -> Channels:
    return Channels()


def new(channels: Channels, name: str, size: int) -> Runs:
    return channels.new(name, size, members=[name])


def written(runs: Runs) -> list[tuple[str | None, int, int]]:
    """Name, units and block of every run."""
    return [
        (None, run.block, 1) if run.atom is None else (run.atom.name, run.atom.channels, run.block)
        for run in resolve(runs)
    ]


def test_a_residual_add_makes_two_counts_one(channels):
    a, b = new(channels, "a", 8), new(channels, "b", 8)
    channels.tie(b, a, "here")
    assert written(a) == written(b) == [("a", 8, 1)]
    assert channels.roots()[0].members == ["a", "b"]


def test_a_grouped_convolution_makes_units_of_channels(channels):
    a, b = new(channels, "a", 12), new(channels, "b", 12)
    groups = channels.divide(a, 4)
    assert written(groups) == [("a", 3, 1)]
    channels.tie(channels.divide(b, 6), fixed((2,))[0], "here")
    channels.tie(a, b, "here")
    assert written(a) == written(b) == [("a", 1, 12)]
    assert channels.roots()[0].unit == 12
    assert channels.roots()[0].frozen == "here joins them with fixed channels"


def test_a_concatenation_cuts_what_it_is_added_to(channels):
    a, b, c = (new(channels, name, size) for name, size in (("a", 8), ("b", 4), ("c", 12)))
    channels.tie(c, a + b, "here")
    assert written(c) == [("a", 8, 1), ("b", 4, 1)]
    assert [root.name for root in channels.roots()] == ["a", "b"]


def test_equal_parts_share_their_channels(channels):
    a = new(channels, "a", 12)
    part = channels.split(a, 3, "here")
    assert written(part) == [("a", 4, 1)]
    assert written(a) == [("a", 4, 1)] * 3


def test_shuffled_halves_stay_one_group_until_their_number_is_odd(channels):
    a, b = new(channels, "a", 6), new(channels, "b", 6)
    half = channels.split(a + b, 2, "here")
    shuffled = channels.scale(half, 2)
    first = channels.split(shuffled, 2, "here")
    assert written(first) == [("a", 3, 2)]
    assert written(a) == written(b) == [("a", 3, 1)] * 2
    with pytest.raises(Unfollowed, match="joins axes made of different parts"):
        channels.split(first, 2, "here")


def test_bare_parameters_take_on_what_they_meet(channels):
    scale, position = channels.new("scale", 8), channels.new("position", 5)
    a = new(channels, "a", 8)
    channels.tie(scale, a, "here")
    channels.tie(position, fixed((5,))[0], "here")
    assert written(scale) == [("a", 8, 1)]
    assert written(position) == [(None, 5, 1)]
    assert channels.roots()[0].frozen is None


def test_counts_are_linear_functions_of_the_channels(channels):
    a = new(channels, "a", 6)
    (atom,) = channels.roots()
    assert count(channels.scale(a, 2) + a + fixed((5,))[0]) == {atom: 3, None: 5}
    assert size_of(channels.scale(a, 2) + a + fixed((5,))[0]) == 23


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda a, b, scale: scale(a, 2), lambda a, b, scale: a + a),
        (lambda a, b, scale: scale(a, 3), lambda a, b, scale: b + b + b),
    ],
    ids=["same", "indivisible"],
)
def test_what_has_no_common_partition_is_refused(channels, first, second):
    a, b = new(channels, "a", 8), new(channels, "b", 8)
    with pytest.raises(Unfollowed, match="joins axes made of different parts"):
        channels.tie(first(a, b, channels.scale), second(a, b, channels.scale), "here")
