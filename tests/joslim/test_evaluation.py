import pytest
import torch
from torch import nn

from joslim.evaluation import measure


def test_measure_equals_a_hand_worked_case():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 1, 1])
    result = measure(nn.Identity(), [(logits[:3], labels[:3]), (logits[3:], labels[3:])])
    confidence = torch.tensor(2.0).sigmoid().item()
    assert result.top1 == 0.75
    assert result.top5 == 1.0
    assert result.loss == pytest.approx(0.25 * 2 + -torch.tensor(confidence).log().item())
    assert result.ece == pytest.approx(abs(confidence - 0.75))
    assert result.confusion.tolist() == [[1, 0], [1, 2]]
