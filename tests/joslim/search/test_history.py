import json
import math

import pytest
import torch

from joslim.errors import DataError
from joslim.search.history import History


def test_telling_known_widths_replaces_the_loss_and_keeps_the_order():
    history = History()
    history.tell((4, 8), 1.0)
    history.tell((2, 8), 2.0)
    history.tell((4, 8), 0.5)
    assert history.widths == [(4, 8), (2, 8)]
    assert torch.equal(history.losses, torch.tensor([0.5, 2.0], dtype=torch.float64))
    assert len(history) == 2
    assert (2, 8) in history
    assert (8, 8) not in history


def test_empty_history():
    history = History()
    assert history.widths == []
    assert history.losses.shape == (0,)
    assert history.losses.dtype == torch.float64


def test_state_survives_json_exactly():
    history = History()
    history.tell((4, 8), 0.1 + 0.2)
    history.tell((2, 8), 1 / 3)
    restored = History()
    restored.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert restored.widths == history.widths
    assert torch.equal(restored.losses, history.losses)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused(loss):
    with pytest.raises(DataError, match=rf"loss of widths \(4, 8\) is {loss}; expected a finite"):
        History().tell((4, 8), loss)
