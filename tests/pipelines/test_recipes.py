"""The params files of the paper's experiments."""

import re
from pathlib import Path

import pytest

from joslim import costs
from pipelines.params import read_params

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167}
PAPER = {
    *(f"cifar{n}-resnet{depth}" for n in (10, 100) for depth in (20, 32, 44, 56)),
    *(f"imagenet-{name}" for name in ("resnet18", "mobilenet-v2", "mobilenet-v3-small")),
}


def test_every_experiment_of_the_paper_has_a_recipe():
    assert {recipe.stem for recipe in RECIPES} == PAPER


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_and_their_budgets_can_be_met(recipe: Path):
    params = read_params(recipe)
    network = params.network_spec(NUM_CLASSES[recipe.stem.partition("-")[0]]).build()
    macs = costs.macs(network)
    for name in params.budgets:
        for limit in params.budget(name):
            assert macs.smallest <= limit.resolve(macs.full)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_thousand_width_configurations_are_proposed(recipe: Path):
    params = read_params(recipe)
    training = params.training
    images = IMAGES[recipe.stem.partition("-")[0]] * (1 - params.data.val_fraction)
    steps = training.epochs * ((images - training.refresh_images) // training.batch_size)
    assert steps / training.steps_per_proposal * training.num_proposals == pytest.approx(1000, 0.01)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_value_has_a_comment(recipe: Path):
    for line in recipe.read_text().splitlines():
        is_value = re.match(r"\s*\w+: *\S", line)
        assert not is_value or " # " in line or line.startswith(("  small", "  medium", "  full"))
