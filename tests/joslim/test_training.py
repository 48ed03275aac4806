"""The sandwich step and the training loop."""

import itertools
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

import joslim
from joslim import costs, search, training
from joslim.calibration import batch_statistics
from joslim.checkpoint import load_checkpoint, save_checkpoint
from joslim.data import ImageSet
from joslim.errors import CheckpointError, DataError, DivergenceError
from joslim.losses import adaptive_alpha_divergence
from joslim.optimisation import learning_rate_at
from joslim.refresh import refresh_history
from joslim.training import Trainer, sandwich_step
from joslim.training_config import TrainingConfig


def config(**changes) -> TrainingConfig:
    values = {
        "epochs": 2,
        "batch_size": 8,
        "processes": 1,
        "precision": "float32",
        "learning_rate": 0.05,
        "learning_rate_decay": "cosine",
        "warmup_fraction": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "max_gradient_norm": None,
        "weight_average": 0.0,
        "label_smoothing": 0.0,
        "subnetwork_weight": 1.0,
        "distillation_weight": 1.0,
        "distillation_divergence": "kl",
        "distillation_teacher": "full",
        "crop_padding": 1,
        "flip": True,
        "crop_scale": None,
        "color_jitter": 0.0,
        "lighting": 0.0,
        "num_proposals": 2,
        "proposals_per_round": 2,
        "steps_per_proposal": 3,
        "refresh_images": 16,
        "refresh_fraction": 1.0,
        "checkpoint_steps": 4,
        "checkpoint_minutes": 10,
    }
    return TrainingConfig(**{**values, **changes})


def data(num_images: int = 72) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, 1, 12, 12), generator=generator).byte()
    return ImageSet(images, torch.randint(0, 10, (num_images,), generator=generator))


def trainer(strategy_name: str = "joslim", images: ImageSet | None = None, **changes) -> Trainer:
    torch.manual_seed(0)
    model = joslim.networks.create("resnet8-half", 10, in_channels=1)
    network = joslim.slimmable(model, torch.zeros(2, 1, 12, 12))
    strategy = search.create(strategy_name, space=network.space, cost=costs.macs(network), seed=0)
    return Trainer(network, strategy, images or data(), config(**changes), seed=0)


def train_until(step: int, checkpoint: Path, **changes) -> None:
    for progress in trainer(**changes).run(checkpoint):
        if progress.step == step:
            break


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
    curve = [progress.full_loss for progress in whole.run()]

    file = tmp_path / "checkpoint.pt"
    train_until(9, file, **changes)
    resumed = trainer(**changes)
    rest = [progress.full_loss for progress in resumed.run(file)]
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
    curve = [progress.history_hypervolume for progress in whole.run()]
    assert curve[:3] == [0, 0, 0]
    assert all(len({*curve[i : i + 3]}) == 1 for i in range(0, 14, 3))
    assert 0 <= curve[3] < curve[-1] < whole.history_hypervolume < 1

    file = tmp_path / "checkpoint.pt"
    for progress in trainer(images=easy).run(file):
        if progress.step == 9:
            break
    resumed = trainer(images=easy)
    assert [progress.history_hypervolume for progress in resumed.run(file)] == curve[8:]
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

    monkeypatch.setattr(training, "refresh_history", counted)
    monkeypatch.setattr(training, "sandwich_step", noted)
    run = trainer(name, num_proposals=1, proposals_per_round=1, steps_per_proposal=2)
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

    monkeypatch.setattr(training, "sandwich_step", noted)
    run = trainer(num_proposals=2, proposals_per_round=3, steps_per_proposal=3)
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


@pytest.mark.parametrize("damage", ["flipped", "cut short", "gone"])
def test_after_damage_training_continues_from_the_checkpoint_before(tmp_path: Path, damage: str):
    whole = trainer()
    curve = [progress.full_loss for progress in whole.run()]
    file = tmp_path / "checkpoint.pt"
    train_until(9, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content if damage == "flipped" else content[:100])
        rest = [progress.full_loss for progress in trainer().run(file)]
    assert rest == curve[4:]
    told = [str(warning.message) for warning in caught]
    assert told == [] if damage == "gone" else f"{file} is damaged: its digest is wrong" in told[0]


def test_a_damaged_checkpoint_never_replaces_the_whole_one_before(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    for step in (1, 2):
        save_checkpoint(file, {"step": step})
    file.write_bytes(b"damaged")
    save_checkpoint(file, {"step": 3})
    assert load_checkpoint(file) == {"step": 3}
    file.unlink()
    assert load_checkpoint(file) == {"step": 1}


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(b"not a checkpoint")
    with (
        pytest.warns(UserWarning, match="digest is wrong"),
        pytest.raises(CheckpointError, match=r"no checkpoint is whole of .*checkpoint.pt; delete"),
    ):
        next(trainer().run(file))
    file.unlink()
    save_checkpoint(file, {"step": 3})
    with pytest.raises(CheckpointError, match=r"does not fit this training"):
        next(trainer().run(file))


def test_on_a_full_disk_training_goes_on(tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "checkpoint.tmp").symlink_to(full)
    with pytest.warns(UserWarning, match="cannot be written: .*No space left"):
        save_checkpoint(tmp_path / "checkpoint.pt", {"step": 3})
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_come_by_time_as_well(tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    steps = trainer(checkpoint_steps=1000, checkpoint_minutes=1e-9).run(file)
    next(steps), next(steps)
    assert file.exists()


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
    with pytest.raises(DataError, match=r"training.refresh_images is 80, but there are only 72"):
        trainer(refresh_images=80)
    with pytest.raises(DataError, match=r"training.batch_size is 60, but only 56 images are left"):
        trainer(batch_size=60)
    with pytest.raises(ValidationError, match="proposals_per_round is 1; expected at least num_pr"):
        config(proposals_per_round=1)
    with pytest.raises(ValidationError, match="batch_size is 8; expected a multiple of processes"):
        config(processes=3)
    with pytest.raises(ValidationError, match="distillation_weight"):
        config(distillation_weight=1.5)
