"""What may be private to a configuration: which parameters those are."""

import pytest
import torch
from torch import nn

from joslim.errors import NetworkError
from joslim.networks import create
from joslim.supernet.private import private_parameters, statistics

IMAGE = torch.zeros(2, 3, 32, 32)


def test_norms_and_the_layer_that_gives_the_logits() -> None:
    model = create("resnet8", 10).train()
    norms = private_parameters(model, "norms", IMAGE)
    assert len(norms) == 2 * sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert {model.get_parameter(name).ndim for name in norms} == {1}
    more = private_parameters(model, "norms-and-classifier", IMAGE)
    assert set(more) - set(norms) == {"head.weight", "head.bias"}
    assert private_parameters(model, "all", IMAGE) == [name for name, _ in model.named_parameters()]
    assert private_parameters(model, "nothing", IMAGE) == []
    assert all(module.training for module in model.modules())
    assert len(statistics(model)) == len(norms)


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("torchvision:squeezenet1_1", "classifier.1.weight"),
        ("torchvision:vit_b_32", "heads.head.weight"),
        ("torchvision:convnext_tiny", "classifier.2.weight"),
    ],
)
def test_the_classifier_is_the_last_layer_that_runs(name: str, classifier: str) -> None:
    size = 224 if "vit" in name else 64
    image = torch.zeros(2, 3, size, size)
    found = private_parameters(create(name, 10), "norms-and-classifier", image)
    assert found[-2] == classifier


def test_a_network_without_norms_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))
    with pytest.raises(NetworkError, match="private is 'norms', but the network has no norm"):
        private_parameters(model, "norms", IMAGE)
    assert private_parameters(model, "norms-and-classifier", IMAGE) == ["3.weight", "3.bias"]
