"""Batch-norm statistics for networks whose weights were trained at other widths."""

import copy

import pytest
import torch
from torch import nn

from joslim.supernet.batch_norm import batch_statistics, even_batch, recalibrate_batchnorm


def test_recalibrated_statistics_are_those_of_the_data():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Dropout(0.5))
    batches = torch.randn(8, 16, 3, 4, 4) * 2 + 5
    recalibrate_batchnorm([model], batches)
    pixels = batches.permute(2, 0, 1, 3, 4).flatten(1)
    torch.testing.assert_close(norm.running_mean, pixels.mean(1))
    expected = batches.permute(0, 2, 1, 3, 4).flatten(2).var(2).mean(0)
    torch.testing.assert_close(norm.running_var, expected)
    assert norm.momentum == 0.1
    assert not model.training


@pytest.mark.parametrize("num_images", [1, 20, 511, 512, 513, 530, 1025, 2048, 2049])
def test_even_batches_are_at_most_a_few_images_apart(num_images: int):
    parts = torch.arange(num_images).split(even_batch(num_images, 512))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 512
    assert max(sizes) - min(sizes) < len(sizes)


def test_networks_recalibrated_together_are_as_if_alone():
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Conv2d(3, n, 3), nn.BatchNorm2d(n), nn.ReLU(), nn.BatchNorm2d(n))
        for n in (4, 6)
    ]
    batches = list(torch.randn(4, 8, 3, 6, 6) * 3 - 1)
    alone = copy.deepcopy(models)
    for model in alone:
        recalibrate_batchnorm([model], batches)
    recalibrate_batchnorm(models, iter(batches))
    for model, other in zip(models, alone, strict=True):
        for name, tensor in other.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_batch_statistics_leave_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(16, 3, 4, 4) * 3 + 1
    with batch_statistics(model):
        normalised = model(x)
    assert normalised.mean().abs() < 1e-5
    assert model[1].training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
