import pytest
import torch
from small_training import config, data, spec

from joslim.evaluation import measure
from joslim.finetuning import finetune
from joslim.supernet.private import private_parameters, statistics


def test_finetuning_never_ends_worse_on_val():
    torch.manual_seed(0)
    model = spec().build().extract(spec().build().space.smallest)
    images = data()
    start = measure(model, images.batches(32)).top1
    options = {"epochs": 2.5, "learning_rate": 0.05, "seed": 0}
    steps = list(finetune(model, images, images, config(), **options))
    assert len(steps) == steps[-1].num_steps == 22
    end = measure(model, images.batches(32)).top1
    assert end == pytest.approx(steps[-1].val_top1)
    assert end > start

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list(finetune(model, images, images, config(), epochs=1, learning_rate=1e9, seed=0))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_finetuning_computes_in_the_precision_of_training():
    first, weights = {}, {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = spec().build().extract(spec().build().space.smallest)
        options = {"epochs": 1, "learning_rate": 0.05, "seed": 0}
        steps = finetune(model, data(), data(), config(precision=precision), **options)
        first[precision] = next(steps).loss
        weights[precision] = {tensor.dtype for tensor in model.parameters()}
    assert first["bfloat16"] != first["float32"]
    assert first["bfloat16"] == pytest.approx(first["float32"], rel=0.02)
    assert weights["bfloat16"] == {torch.float32}


def test_finetuning_clips_gradients_as_training_does():
    torch.manual_seed(0)
    model = spec().build().extract(spec().build().space.smallest)
    next(
        finetune(
            model, data(), data(), config(max_gradient_norm=1e-4),
            epochs=1, learning_rate=0.05, seed=0,
        )
    )  # fmt: skip
    length = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
    assert length == pytest.approx(1e-4, rel=1e-3)


def test_only_the_named_parameters_and_statistics_change():
    torch.manual_seed(0)
    model = spec().build().extract(spec().build().space.smallest)
    images = data()
    names = private_parameters(model, "norms", images.images[:2].float() / 255)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = {"epochs": 2.5, "learning_rate": 0.05, "seed": 0}
    list(finetune(model, images, images, config(), parameters=names, **options))
    allowed = {*names, *statistics(model)}
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    counts = {name for name in changed if name.endswith("num_batches_tracked")}
    assert set(names) & changed
    assert changed - counts <= allowed


def test_a_teacher_is_learned_from_and_stays_as_it_is():
    first = {}
    torch.manual_seed(0)
    teacher = spec().build().extract(spec().build().space.full)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        model = spec().build().extract(spec().build().space.smallest)
        options = {"epochs": 1, "learning_rate": 0.05, "seed": 0}
        steps = finetune(
            model, data(), data(), config(), teacher=teacher, distillation_weight=weight, **options
        )
        first[weight] = next(steps).loss
    assert first[0.5] == pytest.approx((first[0.0] + first[1.0]) / 2)
    assert all(torch.equal(t, before[n]) for n, t in teacher.state_dict().items())
