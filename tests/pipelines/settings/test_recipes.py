"""The params files of the paper's experiments."""

import re
from pathlib import Path

import pytest
import yaml
from checkout import Checkout
from generated_data import write_cifar, write_imagenet

from joslim import costs
from pipelines.settings.loading import read_params

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167}
PAPER = {
    *(f"cifar{n}-resnet{depth}" for n in (10, 100) for depth in (20, 32, 44, 56)),
    *(f"imagenet-{name}" for name in ("resnet18", "mobilenet-v2", "mobilenet-v3-small")),
}

STEPS = 3
TINY = {
    "epochs": 1, "batch_size": 4, "proposals_per_step": 1, "proposals_per_round": 1,
    "steps_per_proposal": 1,
}  # fmt: skip


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
    configurations = steps / training.steps_per_proposal * training.proposals_per_step
    assert configurations == pytest.approx(1000, 0.01)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_value_has_a_comment(recipe: Path):
    for line in recipe.read_text().splitlines():
        is_value = re.match(r"\s*\w+: *\S", line)
        assert not is_value or " # " in line or line.startswith(("  small", "  medium", "  full"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with generated images where the recipes look for theirs.

    Of every class there are few, but enough for the val split.
    """
    copy = Checkout(tmp_path_factory.mktemp("recipes"), {})
    write_cifar(copy.root / "data/cifar-10-batches-bin", 10, train=100)
    write_cifar(copy.root / "data/cifar-100-binary", 100, train=600)
    write_imagenet(copy.root / "data/imagenet", 2, train=26, test=1)
    return copy


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_train(recipe: Path, checkout: Checkout):
    """With smaller counts only; two initial proposals, so that the surrogate makes the third."""
    params = yaml.safe_load(recipe.read_text())
    images = {"cifar10": 90, "cifar100": 500, "imagenet": 50}[recipe.stem.partition("-")[0]]
    left = STEPS * TINY["batch_size"]
    params["training"] |= {**TINY, "refresh_images": images - left}
    params["search"]["num_initial"] = 2
    checkout.write_params(params)
    checkout.dvc("repro", "train")
    assert checkout.read("models/supernet/spec.json")["network"] == params["network"]["name"]
    assert checkout.read("reports/train/metrics.json")["num_steps"] == STEPS
    assert checkout.read("models/supernet/search.json")["history"]["losses"]
