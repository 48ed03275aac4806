"""The sandwich step and its losses."""

import pytest
import torch
import torch.nn.functional as F

import joslim
from joslim.training.sandwich import sandwich_step


def test_gradients_of_a_sandwich_step_are_the_sum_of_separate_backward_passes():
    torch.manual_seed(0)
    x, labels = torch.randn(8, 1, 12, 12, dtype=torch.float64), torch.randint(0, 10, (8,))
    model = joslim.networks.create("resnet8-half", 10, in_channels=1).double()
    network = joslim.slimmable(model, x).train()
    sampled = [network.space.smallest, network.space.uniform(0.7)]
    losses = sandwich_step(network, x, labels, sampled)
    together = {name: p.grad.clone() for name, p in network.named_parameters()}

    network.zero_grad()
    logits = network(x)
    separate = [F.cross_entropy(logits, labels)]
    targets = logits.detach().softmax(1)
    for widths in sampled:
        separate.append(-(targets * network(x, widths).log_softmax(1)).sum(1).mean())
    torch.stack(separate).sum().backward()
    assert losses == pytest.approx([loss.item() for loss in separate])
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad)


def test_distillation_weight_mixes_teacher_and_labels():
    torch.manual_seed(0)
    x, labels = torch.randn(8, 1, 12, 12), torch.randint(0, 10, (8,))
    network = joslim.slimmable(joslim.networks.create("resnet8-half", 10, in_channels=1), x)
    smallest = network.space.smallest
    logits = network(x, smallest)
    _, labels_only = sandwich_step(network, x, labels, [smallest], distillation_weight=0.0)
    assert labels_only == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    _, teacher_only = sandwich_step(network, x, labels, [smallest])
    _, half = sandwich_step(network, x, labels, [smallest], distillation_weight=0.5)
    assert half == pytest.approx((labels_only + teacher_only) / 2, rel=1e-5)


def test_subnetwork_weight_scales_their_gradients_only():
    torch.manual_seed(0)
    x, labels = torch.randn(8, 1, 12, 12), torch.randint(0, 10, (8,))
    network = joslim.slimmable(joslim.networks.create("resnet8-half", 10, in_channels=1), x)
    weight = network.model.conv.weight
    gradients, losses = [], []
    for widths, subnetwork_weight in (
        ([], 1.0),
        ([network.space.smallest], 1.0),
        (
            [network.space.smallest],
            0.5,
        ),
    ):
        network.zero_grad()
        step = sandwich_step(network, x, labels, widths, subnetwork_weight=subnetwork_weight)
        losses.append(step)
        gradients.append(weight.grad.clone())
    alone, whole, half = gradients
    torch.testing.assert_close(half - alone, (whole - alone) / 2)
    assert losses[1] == losses[2]


def test_bfloat16_leaves_weights_and_losses_in_float32_and_changes_them_little():
    torch.manual_seed(0)
    x, labels = torch.randn(8, 1, 12, 12), torch.randint(0, 10, (8,))
    network = joslim.slimmable(joslim.networks.create("resnet8-half", 10, in_channels=1), x)
    found = []
    for precision in (torch.float32, torch.bfloat16):
        network.zero_grad()
        losses = sandwich_step(network, x, labels, [network.space.smallest], precision=precision)
        found.append((losses, network.model.conv.weight.grad.clone()))
    (losses, gradient), (rough_losses, rough_gradient) = found
    assert rough_losses != losses
    assert rough_losses == pytest.approx(losses, rel=0.02)
    assert rough_gradient.dtype == torch.float32
    similarity = F.cosine_similarity(rough_gradient.flatten(), gradient.flatten(), dim=0)
    assert similarity > 0.95
