from pathlib import Path
from typing import Any

import pytest

from joslim.budgets import parse_limits
from pipelines.registry.gate import compare
from pipelines.registry.lookup import Entry
from pipelines.registry.records import LoggedModel
from pipelines.registry.submissions import Collection, Submission, Validation

VALIDATION = Validation("same", 6000, guess=0.1)
LIMITS = {"macs": "50%", "latency": "5ms"}


def submission(top1: float = 0.9, limits: dict[str, str] = LIMITS, **numbers: float) -> Submission:
    measured = {"macs": 500.0, "latency_ms": 4.0, "val_top1": top1, **numbers}
    tags = {"limits": str(limits)}
    return Submission(
        "budget", "tiny", Path(), "", True, measured, tags, {}, "", parse_limits(limits)
    )


def collection(**full: float) -> Collection:
    return Collection("x", [], {}, {"macs": 1000.0, **full}, VALIDATION, "not-worse", lambda _: "")


def before(
    top1: float = 0.9, limits: dict[str, str] = LIMITS, digest: str = "same", **numbers: float
) -> Entry:
    measured = {"macs": 400.0, "latency_ms": 4.0, "val_top1": top1, **numbers}
    tags = {"kind": "budget", "id": "tiny", "limits": str(limits)}
    tags |= {"val_digest": digest, "num_val": "6000"}
    return Entry("x", 1, LoggedModel("m-1", "", measured, tags))


def test_without_a_model_before_nothing_is_compared() -> None:
    found = compare(submission(), 2, None, collection())
    assert (found.before, found.before_top1, found.allowed) == (None, None, None)
    assert (found.reason, found.note) == ("", "")


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ({"macs": 501.0}, "its macs is 501, expected macs <= 50%"),
        ({"latency_ms": 5.1}, "its latency is 5.10 ms, expected latency <= 5ms"),
        ({"macs": 500.0, "latency_ms": 5.0}, ""),
        ({"top1": 0.107}, "val top-1 10.70% is no better than a guess"),
        ({"top1": 0.12}, ""),
    ],
)
def test_a_model_has_to_keep_to_its_budget_and_to_have_learned(
    new: dict[str, Any], reason: str
) -> None:
    found = compare(submission(**new), 2, None, collection())
    assert found.reason.startswith(reason)
    assert bool(found.reason) is bool(reason)


def test_a_fall_is_compared_with_that_by_chance() -> None:
    equal = compare(submission(0.9), 2, before(0.9), collection())
    assert equal.allowed == pytest.approx(0.0108, abs=2e-4)
    just = compare(submission(0.8895), 2, before(0.9), collection())
    assert just.reason == ""
    assert compare(submission(0.888), 2, before(0.9), collection()).reason.startswith(
        "val top-1 88.80% is below version 1's 90.00% by more than chance explains"
    )
    assert compare(submission(0.95), 2, before(0.9), collection()).reason == ""


@pytest.mark.parametrize(
    ("limits", "numbers", "is_compared"),
    [
        ({"macs": "30%"}, {}, False),
        ({"macs": "60%"}, {}, True),
        ({"macs": "50%", "latency": "3ms"}, {}, False),
        # Measured again, a latency is another: limits that have not changed are taken as kept.
        (LIMITS, {"latency_ms": 5.2}, True),
        ({"macs": "50%", "latency": "6ms"}, {"latency_ms": 5.2}, True),
    ],
)
def test_changed_limits_are_compared_where_the_model_before_keeps_to_them(
    limits: dict[str, str], numbers: dict[str, float], is_compared: bool
) -> None:
    new = submission(0.8, limits, macs=100.0, latency_ms=1.0)
    found = compare(new, 2, before(0.9, LIMITS, **numbers), collection())
    assert bool(found.reason) is is_compared
    assert ("version 1 is not within" in found.note) is not is_compared


def test_other_validation_images_are_said() -> None:
    found = compare(submission(0.8), 2, before(0.9, digest="other"), collection())
    assert found.note == "version 1 was measured on other validation images"
    assert found.reason
