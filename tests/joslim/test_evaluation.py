import pytest
import torch
from torch import nn

from joslim.evaluation import measure, predict


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


def test_predictions_are_those_in_eval_mode_and_the_mode_stays():
    images, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4)).train()
    logits, given = predict(model, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    torch.testing.assert_close(logits, model[1](images))
    assert given.tolist() == labels.tolist()
    assert model.training
