import pytest

from joslim.budgets import QUANTITIES, parse_budget, parse_limit, parse_limits, stated
from joslim.errors import BudgetError


@pytest.mark.parametrize(
    ("quantity", "text", "amount"),
    [
        ("macs", "12M", 12e6),
        ("macs", "1.5G", 1.5e9),
        ("macs", "300k", 3e5),
        ("macs", "1e6", 1e6),
        ("params", "78000", 78_000),
        ("params", "0.5 m", 5e5),
        ("memory", "4MiB", 4 * 2**20),
        ("memory", "4MB", 4e6),
        ("memory", "512 kib", 512 * 2**10),
        ("memory", "4096", 4096),
        ("latency", "5ms", 5.0),
        ("latency", "800us", 0.8),
        ("latency", "0.01s", 10.0),
    ],
)
def test_absolute_limits_are_in_the_unit_of_their_column(
    quantity: str, text: str, amount: float
) -> None:
    limit = parse_limit(quantity, text)
    assert limit.resolve(full=None) == pytest.approx(amount, rel=1e-12)


def test_plain_numbers_of_yaml_are_understood() -> None:
    (limit,) = parse_limits({"macs": 12_000_000})
    assert limit.resolve(None) == 12_000_000
    assert str(limit) == "macs <= 12000000"


@pytest.mark.parametrize("percent", [1, 29, 50, 55, 100])
def test_a_percentage_of_the_full_network_includes_exactly_that_share(percent: int) -> None:
    (limit,) = parse_budget(f"macs={percent}%")
    assert limit.resolve(full=100) == percent


def test_the_full_network_costs_no_more_than_all_of_itself() -> None:
    (limit,) = parse_budget("latency=100%")
    for tenths_of_microseconds in range(1, 3000):
        latency = tenths_of_microseconds / 10_000
        assert limit.resolve(full=latency) == latency


def test_a_percentage_needs_the_full_networks_cost() -> None:
    (limit,) = parse_budget("latency=50%")
    with pytest.raises(BudgetError, match=r"full network's latency is not known; expected .* 5ms"):
        limit.resolve(full=None)


def test_limits_of_one_budget_hold_together() -> None:
    macs, memory = parse_budget("macs=12M, memory=4MiB")
    assert (macs.quantity.name, memory.quantity.name) == ("macs", "memory")
    assert (macs.resolve(None), memory.resolve(None)) == (12e6, 4 * 2**20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flops=12M", "budget on 'flops'; expected one of macs, params, memory, latency"),
        ("macs=12Q", "budget macs is '12Q'; expected a number, alone or with one of the units k"),
        ("macs=lots", "budget macs is 'lots'"),
        ("macs=-3M", "budget macs is '-3M'"),
        ("macs=nan", "budget macs is 'nan'"),
        ("memory=4M", "budget memory is '4M'; expected .* units B, kB, MB"),
        ("latency=5", "budget latency is '5'; expected a number with one of the units us, ms, s"),
        ("macs=0", "budget macs is '0'; expected more than 0"),
        ("macs=120%", "budget macs is '120%'; expected more than 0% and at most 100%"),
        ("12M", "budget '12M'; expected QUANTITY=LIMIT such as macs=12M"),
        ("macs=1M,macs=2M", "limits macs twice"),
        ("", "expected QUANTITY=LIMIT"),
    ],
)
def test_what_is_not_understood_is_named(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        parse_budget(text)


@pytest.mark.parametrize("limits", [{}, None, "macs=12M", {"macs": True}, {"macs": None}])
def test_limits_of_the_wrong_type_are_refused(limits: object) -> None:
    with pytest.raises(BudgetError, match="expected"):
        parse_limits(limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("macs", 11_800_000, "11.8M"),
        ("macs", 2_040_000_000, "2.04G"),
        ("params", 78_042, "78k"),
        ("params", 999, "999"),
        ("memory", 4 * 2**20, "4 MiB"),
        ("memory", 1023 * 2**10, "1020 KiB"),
        ("memory", 100, "100 B"),
        ("latency", 1.2345, "1.23 ms"),
    ],
)
def test_costs_are_shown_in_a_handy_unit(name: str, value: float, text: str) -> None:
    assert QUANTITIES[name].format(value) == text


def test_rounding_never_shows_a_thousand_of_a_unit() -> None:
    assert QUANTITIES["macs"].format(999_999) == "1M"


def test_a_small_number_alone_may_lack_its_percent_sign() -> None:
    assert parse_limit("macs", 50).hint == "; did you mean macs <= 50%?"
    for value in ("50%", "50k", "2000000"):
        assert parse_limit("macs", value).hint == ""


def test_the_latency_on_another_device_is_a_quantity_of_its_own() -> None:
    (limit,) = parse_budget("latency@pi5=20ms")
    assert limit.quantity.column == "latency_ms_pi5"
    assert limit.resolve(None) == 20.0
    assert str(limit) == "latency@pi5 <= 20ms"
    names = [q.name for q in stated(["macs", "latency_ms", "latency_ms_pi5", "val_top1"])]
    assert names == ["macs", "latency", "latency@pi5"]
    with pytest.raises(BudgetError, match="budget on 'latency@Pi 5'; expected one of macs"):
        parse_budget("latency@Pi 5=20ms")


def test_a_limit_is_a_finite_number() -> None:
    for value in ("1e999", "1e300G", "1e308 GiB", 10**5000, float("inf")):
        with pytest.raises(BudgetError, match=r"^budget memory is "):
            parse_limit("memory", value)
