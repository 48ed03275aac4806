"""Sub-networks by slicing: identities against the stock model and the extracted dense twins."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import joslim
from joslim.errors import TracingError, WidthError

NETWORKS = {
    "resnet8": 28,
    "resnet20": 32,
    "resnet32": 32,
    "resnet44": 32,
    "resnet56": 32,
    "torchvision:resnet18": 64,
    "torchvision:mobilenet_v2": 64,
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[joslim.SlimmableNetwork, torch.Tensor]:
    torch.manual_seed(0)
    size = NETWORKS[request.param]
    x = torch.randn(2, 3, size, size)
    network = joslim.slimmable(joslim.networks.create(request.param, num_classes=10), x)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    return network.eval(), x


def random_widths(network: joslim.SlimmableNetwork, count: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [network.space.random(generator) for _ in range(count)]


def test_full_width_is_the_stock_model(case):
    network, x = case
    torch.testing.assert_close(network(x), network.model(x), rtol=0, atol=0)
    torch.testing.assert_close(network(x, network.space.full), network.model(x), rtol=0, atol=0)


def test_slice_equals_its_extracted_dense_twin(case):
    network, x = case
    for widths in [network.space.smallest, (1,) * len(network.space), *random_widths(network, 3)]:
        dense = network.extract(widths)
        torch.testing.assert_close(network(x, widths), dense(x), atol=1e-5, rtol=0)


def test_costs_equal_a_count_on_the_dense_twin(case):
    network, x = case
    macs, params = joslim.costs.macs(network), joslim.costs.params(network)
    for widths in [network.space.full, *random_widths(network, 3)]:
        dense = network.extract(widths)
        with FlopCounterMode(display=False) as counter:
            dense(x[:1])
        assert 2 * macs(widths) == counter.get_total_flops()
        assert params(widths) == sum(p.numel() for p in dense.parameters())


def test_gradients_equal_those_of_the_dense_twin():
    torch.manual_seed(0)
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    network = joslim.slimmable(joslim.networks.create("resnet8", 10, in_channels=1).double(), x)
    widths = network.space.smallest
    dense = network.extract(widths).train()
    network.train()(x, widths).square().sum().backward()
    dense(x).square().sum().backward()
    for name, parameter in dense.named_parameters():
        full = network.model.get_parameter(name).grad
        assert full is not None
        inside = tuple(slice(0, size) for size in parameter.shape)
        torch.testing.assert_close(full[inside], parameter.grad)
        outside = full.clone()
        outside[inside] = 0
        assert not outside.any()


def test_extract_owns_its_weights_and_leaves_the_network_alone():
    x = torch.randn(2, 1, 28, 28)
    network = joslim.slimmable(joslim.networks.create("resnet8", 10, in_channels=1), x)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    dense = network.extract(network.space.smallest)
    assert dense.stage1[0].conv1.out_channels == network.space.smallest[1]
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.fill_(7.0)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_subnetworks_leave_the_running_statistics_alone():
    x = torch.randn(8, 1, 28, 28)
    network = joslim.slimmable(joslim.networks.create("resnet8", 10, in_channels=1), x).train()
    before = network.model.norm.running_mean.clone()
    network(x, network.space.smallest)
    assert torch.equal(network.model.norm.running_mean, before)
    network(x)
    assert not torch.equal(network.model.norm.running_mean, before)


def test_weights_are_whole_again_after_a_pass_that_fails():
    x = torch.randn(2, 1, 28, 28)
    network = joslim.slimmable(joslim.networks.create("resnet8", 10, in_channels=1), x).eval()
    before = dict(network.named_parameters()) | dict(network.named_buffers())
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.randn(2, 3, 28, 28), network.space.smallest)
    after = dict(network.named_parameters()) | dict(network.named_buffers())
    assert all(after[name] is tensor for name, tensor in before.items())


def test_groups_of_a_residual_network():
    network = joslim.slimmable(joslim.networks.create("resnet20", 10), torch.randn(1, 3, 32, 32))
    groups = {group.name: group for group in network.space.groups}
    assert len(groups) == 12
    assert groups["conv"].members == (
        "conv", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2",
    )  # fmt: skip
    assert groups["conv"].smallest == 7
    assert groups["stage3.0.conv1"].smallest == 28
    assert groups["stage3.0.conv1"].divisor == 4


class Concatenating(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(20)
        self.join = nn.Conv2d(20, 6, 1)
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x):
        x = self.join(self.norm(torch.cat([self.left(x), self.right(x)], 1)).relu())
        return self.head(torch.flatten(x, 1))


def test_concatenation_and_flatten_are_followed_in_parts():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4)
    network = joslim.slimmable(Concatenating(), x, min_width=0.25).eval()
    assert [group.name for group in network.space.groups] == ["left", "right", "join"]
    widths = (3, 5, 2)
    dense = network.extract(widths)
    assert dense.join.weight.shape == (2, 8, 1, 1)
    torch.testing.assert_close(network(x, widths), dense(x))
    assert torch.equal(dense.join.weight[:, 3:], network.model.join.weight[:2, 8:13])


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.after = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.cumsum(self.before(x), 1)
        return self.head(self.after(x).mean((2, 3)))


def test_an_unknown_operation_freezes_its_group_and_says_so():
    network = joslim.slimmable(Unknown(), torch.randn(2, 3, 4, 4))
    before, after = network.space.groups
    assert before.frozen == "node 'cumsum' (cumsum) has no rule for them"
    assert before.smallest == before.full == 8
    assert after.frozen is None
    with pytest.raises(WidthError, match=r"'before' is 4; it is frozen at 8: node 'cumsum'"):
        network(torch.randn(2, 3, 4, 4), (4, 4))


def test_errors_name_what_is_wrong():
    with pytest.raises(TracingError, match=r"min_width is 1.5; expected 0 < min_width <= 1"):
        joslim.slimmable(Unknown(), torch.randn(2, 3, 4, 4), min_width=1.5)
    network = joslim.slimmable(Unknown(), torch.randn(2, 3, 4, 4))
    with pytest.raises(WidthError, match=r"'after' is 9; expected a whole number from 1 to 8"):
        network(torch.randn(2, 3, 4, 4), (8, 9))

    class Branching(Unknown):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(TracingError, match=r"torch\.fx cannot trace Branching"):
        joslim.slimmable(Branching(), torch.randn(2, 3, 4, 4))
