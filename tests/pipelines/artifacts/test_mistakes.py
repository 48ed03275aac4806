"""The mistakes that a model is surest of, and their images."""

from pathlib import Path

import finished_run
import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from joslim.errors import DataError
from pipelines.artifacts import mistakes
from pipelines.artifacts.mistakes import MOST, Mistake

CLASSES = ("cat", "dog", "cow")


def test_the_surest_mistakes_are_kept_one_of_each_pair() -> None:
    """Of six images the second, third, fifth and sixth are mistaken."""
    sure = {0: 0.9, 1: 0.6, 2: 0.8, 3: 0.99, 4: 0.5, 5: 0.7}
    predicted, labels = [0, 1, 1, 2, 0, 1], torch.tensor([0, 0, 0, 2, 1, 2])
    probabilities = torch.stack(
        [
            torch.full((3,), (1 - sure[i]) / 2).index_fill(0, torch.tensor(p), sure[i])
            for i, p in enumerate(predicted)
        ]
    )
    assert mistakes.surest(probabilities.log(), labels, CLASSES) == [
        Mistake(2, "cat", "dog", 0.8),
        Mistake(5, "cow", "dog", 0.7),
        Mistake(4, "dog", "cat", 0.5),
    ]


def test_only_so_many_are_kept() -> None:
    logits = torch.randn(400, 30, generator=torch.Generator().manual_seed(0))
    found = mistakes.surest(logits, torch.arange(400) % 30, [str(i) for i in range(30)])
    assert len(found) == MOST
    assert [m.confidence for m in found] == sorted((m.confidence for m in found), reverse=True)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_what_was_saved_is_loaded_with_its_images(channels: int, size: int, tmp_path: Path) -> None:
    test = finished_run.images(torch.arange(9), channels, size)
    saved = [Mistake(7, "cat", "Hündin, 1", 0.5), Mistake(2, "cow", "cat", 0.25)]
    mistakes.save(tmp_path, saved, test)
    loaded = mistakes.load(tmp_path)
    assert [mistake for mistake, _ in loaded] == saved
    for mistake, image in loaded:
        assert torch.equal(pil_to_tensor(image), test.images[mistake.index])


def test_a_model_without_mistakes_has_none(tmp_path: Path) -> None:
    mistakes.save(tmp_path, [], finished_run.images(torch.arange(2)))
    assert mistakes.load(tmp_path) == []
    assert (tmp_path / mistakes.SHEET).is_file()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    test = finished_run.images(torch.arange(2))
    mistakes.save(tmp_path, [Mistake(0, "a", "b", 0.5), Mistake(1, "b", "a", 0.4)], test)
    one = (tmp_path / mistakes.TABLE).read_text()
    mistakes.save(tmp_path, [Mistake(0, "a", "b", 0.5)], test)
    (tmp_path / mistakes.TABLE).write_text(one)
    with pytest.raises(DataError, match=r"mistakes.png has 1 images, but mistakes.json 2 mistake"):
        mistakes.load(tmp_path)
    (tmp_path / mistakes.SHEET).write_text("no picture")
    with pytest.raises(DataError, match=r"mistakes.png cannot be read: cannot identify image"):
        mistakes.load(tmp_path)
