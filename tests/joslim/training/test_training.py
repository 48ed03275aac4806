"""The training loop."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from small_training import config, data, train_until, trainer

import joslim
from joslim import costs
from joslim.data import ImageSet
from joslim.errors import DataError, DivergenceError
from joslim.supernet.batch_norm import batch_statistics
from joslim.training import trainer as trainer_module
from joslim.training.losses import adaptive_alpha_divergence
from joslim.training.optimizer import learning_rate_at
from joslim.training.refresh import refresh_history
from joslim.training.sandwich import sandwich_step

AVERAGED = {
    "weight_average": 0.8,
    "distillation_teacher": "average",
    "distillation_divergence": "alpha",
    "max_gradient_norm": 1.0,
    "learning_rate_decay": "linear",
}


@pytest.mark.parametrize("changes", [{}, AVERAGED])
def test_interrupted_training_equals_uninterrupted(tmp_path: Path, changes: dict):
    whole = trainer(**changes)
    curve = [step.full_loss for step in whole.run()]

    file = tmp_path / "checkpoint.pt"
    train_until(9, file, **changes)
    resumed = trainer(**changes)
    rest = [step.full_loss for step in resumed.run(file)]
    assert rest == curve[8:]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
    assert whole.strategy.state_dict() == resumed.strategy.state_dict()


def test_averaged_weights_follow_the_steps_and_are_what_training_ends_with():
    plain, run = trainer(), trainer(weight_average=0.8)
    expected: dict[str, torch.Tensor] = {}
    for count, _ in enumerate(plain.run()):
        weights = {name: p.detach().clone() for name, p in plain.network.named_parameters()}
        kept = min(0.8, (1 + count) / (10 + count)) if count else 0
        expected = {name: w.lerp(expected.get(name, w), kept) for name, w in weights.items()}
    list(run.run())
    for name, parameter in run.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], msg=name)
    images = run._held_out.images.float() / 255
    history = run.strategy.history
    with torch.no_grad(), batch_statistics(run.network):
        predicted = run.network(images).softmax(1)
        loss = F.cross_entropy(run.network(images, history.widths[0]), predicted).item()
    assert history.losses[0] == pytest.approx(loss)


def test_subnetworks_learn_from_another_teacher_where_there_is_one():
    torch.manual_seed(0)
    x, labels = torch.randn(8, 1, 12, 12), torch.randint(0, 10, (8,))
    models = [joslim.networks.create("resnet8-half", 10, in_channels=1) for _ in range(2)]
    network, teacher = (joslim.slimmable(model, x).train() for model in models)
    smallest = network.space.smallest
    full, taught = sandwich_step(network, x, labels, [smallest], teacher=teacher)
    assert full == pytest.approx(F.cross_entropy(network(x), labels).item(), rel=1e-5)
    targets = teacher(x).softmax(1)
    assert taught == pytest.approx(F.cross_entropy(network(x, smallest), targets).item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_alpha_divergence_is_the_larger_of_its_two():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = 0.3 * torch.randn(2, 50, 10, generator=generator, dtype=torch.float64)
    q, p = logits.softmax(1), teacher.softmax(1)
    kullback_leibler = (p * (p / q).log()).sum(1)
    chi_squared = ((q - p) ** 2 / p).sum(1)
    assert (kullback_leibler > chi_squared / 2).any()
    assert (kullback_leibler < chi_squared / 2).any()
    expected = torch.maximum(kullback_leibler, chi_squared / 2).mean()
    torch.testing.assert_close(adaptive_alpha_divergence(logits, teacher), expected)
    assert adaptive_alpha_divergence(logits, logits).item() == pytest.approx(0, abs=1e-12)


def test_alpha_divergence_stays_finite_where_the_teacher_is_certain():
    teacher = torch.tensor([[200.0, 0.0, 0.0]])
    logits = torch.tensor([[0.0, 0.0, 200.0]], requires_grad=True)
    loss = adaptive_alpha_divergence(logits, teacher)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_gradients_are_clipped_to_the_length_allowed():
    for longest in (None, 1e-4):
        run = trainer(max_gradient_norm=longest)
        next(run.run())
        gradients = [parameter.grad for parameter in run.network.parameters()]
        length = torch.nn.utils.get_total_norm(gradients).item()
        assert length > 1e-2 if longest is None else length == pytest.approx(longest, rel=1e-3)


def test_an_average_that_is_not_taken_cannot_teach():
    with pytest.raises(ValidationError, match="distillation_teacher is average, but weight_ave"):
        config(distillation_teacher="average")


def test_the_hypervolume_grows_by_rounds_and_is_the_same_after_an_interruption(tmp_path: Path):
    easy = ImageSet(data().images, torch.zeros(72, dtype=torch.int64))
    whole = trainer(images=easy)
    curve = [step.history_hypervolume for step in whole.run()]
    assert curve[:3] == [0, 0, 0]
    assert all(len({*curve[i : i + 3]}) == 1 for i in range(0, 14, 3))
    assert 0 <= curve[3] < curve[-1] < whole.history_hypervolume < 1

    file = tmp_path / "checkpoint.pt"
    for step in trainer(images=easy).run(file, checkpoint_steps=4):
        if step.step == 9:
            break
    resumed = trainer(images=easy)
    assert [step.history_hypervolume for step in resumed.run(file)] == curve[8:]
    assert resumed.history_hypervolume == whole.history_hypervolume


def test_history_holds_every_visited_width_under_the_final_weights():
    run = trainer()
    steps = list(run.run())
    assert len(steps) == run.num_steps == 14
    assert steps[-1].num_visited == len(run.strategy.history) > 2
    assert run.strategy.history.losses.isfinite().all()


@pytest.mark.parametrize("name", ["joslim", "two-stage"])
def test_measuring_spends_its_share_of_training(name: str, monkeypatch: pytest.MonkeyPatch):
    allowed: list[float] = []
    trained: list[tuple[int, ...]] = []

    def counted(*arguments, max_macs, **options):
        allowed.append(max_macs)
        return refresh_history(*arguments, max_macs=max_macs, **options)

    def noted(network, images, labels, widths_list, **options):
        trained.extend([network.space.full, *widths_list])
        return sandwich_step(network, images, labels, widths_list, **options)

    monkeypatch.setattr(trainer_module, "refresh_history", counted)
    monkeypatch.setattr(trainer_module, "sandwich_step", noted)
    run = trainer(name, proposals_per_step=1, proposals_per_round=1, steps_per_proposal=2)
    list(run.run())
    macs = costs.macs(run.network)
    spent = 3 * run.config.batch_size * sum(macs(widths) for widths in trained)
    assert sum(allowed) == pytest.approx(spent, rel=0.2)
    assert len(allowed) == (8 if name == "joslim" else 1)


def test_steps_of_a_round_take_turns_among_its_proposals(monkeypatch: pytest.MonkeyPatch):
    trained: list[list[tuple[int, ...]]] = []

    def noted(network, images, labels, widths_list, **options):
        trained.append(widths_list[1:])
        return sandwich_step(network, images, labels, widths_list, **options)

    monkeypatch.setattr(trainer_module, "sandwich_step", noted)
    run = trainer(proposals_per_step=2, proposals_per_round=3, steps_per_proposal=3)
    list(run.run())
    first, second, third = *trained[0], trained[1][0]
    assert len({first, second, third}) == 3
    assert trained[:3] == [[first, second], [third, first], [second, third]]
    assert not {first, second, third} & {*trained[3], *trained[4]}
    assert set(run.strategy.history.widths) == set(itertools.chain.from_iterable(trained))


def test_earlier_methods_are_this_trainer_with_another_strategy():
    drawn = {}
    for name in ("joslim", "tpe", "slim", "two-stage"):
        run = trainer(name, steps_per_proposal=4)
        asked: list[int] = []
        ask = run.strategy.ask

        def noted(run=run, ask=ask, asked=asked):
            asked.append(run.step)
            return ask()

        run.strategy.ask = noted
        list(run.run())
        drawn[name] = sorted(set(asked))
        assert 2 < len(run.strategy.history) <= 8
    assert drawn["joslim"] == drawn["tpe"] == [0, 4, 8, 12]
    assert drawn["slim"] == drawn["two-stage"] == list(range(14))


def test_a_loss_that_is_not_finite_stops_training_and_is_named():
    run = trainer(learning_rate=1e30)
    with pytest.raises(DivergenceError, match=r"loss of step \d+ .*learning_rate is 1e\+30"):
        list(run.run())


def test_learning_rate_rises_and_falls_to_zero():
    rates = [learning_rate_at(step, 100, config(learning_rate=0.5)) for step in range(100)]
    peak = rates.index(max(rates))
    assert peak == 20
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert max(rates) == 0.5
    assert 0 < rates[-1] < 1e-3
    linear = config(learning_rate=0.5, learning_rate_decay="linear")
    rates = [learning_rate_at(step, 100, linear) for step in (20, 40, 60, 80)]
    assert rates == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match=r"^refresh_images is 80, but there are only 72"):
        trainer(refresh_images=80)
    with pytest.raises(DataError, match=r"^batch_size is 60, but only 56 images are left"):
        trainer(batch_size=60)
    with pytest.raises(ValidationError, match="proposals_per_round is 1; expected at least propo"):
        config(proposals_per_round=1)
    with pytest.raises(ValidationError, match="distillation_weight"):
        config(distillation_weight=1.5)
