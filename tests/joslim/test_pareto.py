import math

import pytest
import torch

from joslim.pareto import best_under, front_mask, hypervolume

NAN = math.nan


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("losses", "costs", "expected"),
    [
        ([3, 2, 1], [1, 2, 3], [True, True, True]),
        ([1, 2, 3], [1, 2, 3], [True, False, False]),
        ([2, 1, 2, 3], [1, 2, 2, 1], [True, True, False, False]),
        ([1, 1, 1], [2, 1, 1], [False, True, False]),
        ([NAN, 2, 1, 0], [0, 1, 2, NAN], [False, True, True, False]),
        ([NAN, NAN], [1, 2], [False, False]),
        ([], [], []),
    ],
    ids=["all", "chain", "equal in one objective", "duplicates", "nan", "only nan", "empty"],
)
def test_front_mask_hand_worked(losses, costs, expected, dtype):
    mask = front_mask(torch.tensor(losses, dtype=dtype), torch.tensor(costs, dtype=dtype))
    assert mask.dtype == torch.bool
    assert mask.tolist() == expected


def test_front_mask_equals_the_definition():
    points = torch.randint(0, 12, (200, 2), generator=torch.Generator().manual_seed(0))
    losses, costs = points.double().unbind(1)
    for i, on_front in enumerate(front_mask(losses, costs).tolist()):
        not_worse = (losses <= losses[i]) & (costs <= costs[i])
        better = not_worse & ((losses < losses[i]) | (costs < costs[i]))
        first = int((points == points[i]).all(1).int().argmax()) == i
        assert on_front == (first and not better.any())


@pytest.mark.parametrize(
    ("losses", "costs", "expected"),
    [
        ([1.0], [1.0], 4.0),
        ([1.0, 2.0], [2.0, 1.0], 3.0),
        ([1.0, 2.0, 2.0, 1.0], [2.0, 1.0, 2.0, 2.0], 3.0),
        ([1.0, 4.0], [1.0, 0.0], 4.0),
        ([3.0], [1.0], 0.0),
        ([1.0, NAN], [1.0, 0.0], 4.0),
        ([], [], 0.0),
    ],
    ids=["one", "two", "dominated and double", "beyond", "at the reference", "nan", "empty"],
)
def test_hypervolume_hand_worked(losses, costs, expected):
    assert hypervolume(torch.tensor(losses), torch.tensor(costs), (3.0, 3.0)) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((4, 9), 2), ((3, 9), 1), ((4, 1), 0), ((9, 9), 2), ((0.5, 9), None)],
)
def test_best_under_obeys_every_limit(limits, expected):
    losses = torch.tensor([3.0, 2.0, 1.0, 1.0, NAN])
    costs = torch.tensor([[1, 1], [3, 2], [4, 3], [5, 3], [1, 1]])
    assert best_under(losses, costs, limits) == expected


def test_best_under_of_nothing():
    assert best_under(torch.empty(0), torch.empty(0, 1), [1.0]) is None
