"""What a profile of some widths tells of all others."""

import json
from pathlib import Path

import pytest
import torch

from joslim.costs.profile import Profile, fitted
from joslim.errors import CheckpointError
from joslim.networks import create
from joslim.supernet import SlimmableNetwork, slimmable


@pytest.fixture(scope="module")
def network() -> SlimmableNetwork:
    return slimmable(create("resnet8", 10), torch.zeros(2, 3, 16, 16), min_width=0.25)


def made_up(network: SlimmableNetwork, count: int) -> Profile:
    """Of a device that takes 0.1 ms, 2 ns for each element of a convolution, 0.5 ns for a MAC."""
    generator = torch.Generator().manual_seed(0)
    measured, exact = {}, {}
    for widths in (network.space.random(generator) for _ in range(count)):
        operations = [operation for operation in network.trace.operations if operation.macs]
        elements = sum(t.at(widths) for o in operations for t in o.elements)
        macs = sum(t.at(widths) for o in operations for t in o.macs)
        exact[widths] = macs
        measured[widths] = 0.1 + 2e-6 * elements + 5e-7 * macs
    groups = tuple(group.name for group in network.space.groups)
    return Profile("toy", "a toy, 1 thread", groups, measured, exact)


def test_a_device_that_follows_the_formula_is_predicted_exactly(network: SlimmableNetwork) -> None:
    profile, more = made_up(network, 24), made_up(network, 40)
    latency = fitted(network, profile)
    assert latency.name == "latency@toy"
    assert latency.table.device == "a toy, 1 thread"
    assert latency.table.median_error < 1e-3
    for widths, milliseconds in more.measured.items():
        assert latency(widths) == pytest.approx(milliseconds, rel=5e-3)
    counts = torch.tensor([network.space.smallest, network.space.full], dtype=torch.float64)
    smallest, full = latency(counts).tolist()
    assert 0 < smallest < full


def test_a_profile_that_cannot_be_used_is_refused(
    network: SlimmableNetwork, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="has 7 width configurations; expected at least 8"):
        fitted(network, made_up(network, 7))
    profile = made_up(network, 8)
    other = Profile("toy", "a toy", ("a", "b"), profile.measured, profile.macs)
    with pytest.raises(CheckpointError, match="another network, with a channel group 'a'; expect"):
        fitted(network, other)
    larger = slimmable(create("resnet8", 10), torch.zeros(2, 3, 32, 32), min_width=0.25)
    with pytest.raises(CheckpointError, match=r"in which the widths .* have .* MACs"):
        fitted(larger, profile)
    one = {"id": "w-0", "widths": [4, 8], "macs": 10, "latency_ms": 0.0}
    content = {"device": "a toy", "groups": ["a", "b"], "configurations": [one]}
    (tmp_path / "toy.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"toy.json cannot be read: 1 validation error"):
        Profile.load(tmp_path / "toy.json")
    one |= {"latency_ms": 1.5, "latency_doubt": "a busy machine"}
    (tmp_path / "toy.json").write_text(json.dumps(content))
    loaded = Profile.load(tmp_path / "toy.json")
    assert loaded.measured == {(4, 8): 1.5}
    assert loaded.doubts == {(4, 8): "a busy machine"}
    assert loaded.date == "", "of a version before 0.3"
    one["widths"] = [4]
    (tmp_path / "toy.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="has widths for other groups than it names"):
        Profile.load(tmp_path / "toy.json")


@pytest.mark.parametrize("text", ["", "[]", "\udc80", "[" * 10_000, '{"device": 1e400}'])
def test_a_damaged_profile_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"toy.json cannot be read: "):
        Profile.load(tmp_path / "toy.json")
