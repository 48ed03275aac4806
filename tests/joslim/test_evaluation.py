"""Measuring, batch-norm recalibration, fine-tuning, and networks on disk."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import config, data
from torch import nn

import joslim
from joslim.calibration import batch_statistics, even_batch, recalibrate_batchnorm
from joslim.errors import CheckpointError, NetworkError, TracingError
from joslim.evaluation import latencies_ms, latency_ms, measure
from joslim.finetuning import finetune
from joslim.storage import NetworkSpec, load_spec, load_supernet, save_subnetwork, save_supernet


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


def test_recalibrated_statistics_are_those_of_the_data():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Dropout(0.5))
    batches = torch.randn(8, 16, 3, 4, 4) * 2 + 5
    recalibrate_batchnorm([model], batches)
    pixels = batches.permute(2, 0, 1, 3, 4).flatten(1)
    torch.testing.assert_close(norm.running_mean, pixels.mean(1))
    expected = batches.permute(0, 2, 1, 3, 4).flatten(2).var(2).mean(0)
    torch.testing.assert_close(norm.running_var, expected)
    assert norm.momentum == 0.1
    assert not model.training


@pytest.mark.parametrize("num_images", [1, 20, 511, 512, 513, 530, 1025, 2048, 2049])
def test_even_batches_are_at_most_a_few_images_apart(num_images: int):
    parts = torch.arange(num_images).split(even_batch(num_images, 512))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 512
    assert max(sizes) - min(sizes) < len(sizes)


def test_networks_recalibrated_together_are_as_if_alone():
    torch.manual_seed(0)
    models = [
        nn.Sequential(nn.Conv2d(3, n, 3), nn.BatchNorm2d(n), nn.ReLU(), nn.BatchNorm2d(n))
        for n in (4, 6)
    ]
    batches = list(torch.randn(4, 8, 3, 6, 6) * 3 - 1)
    alone = copy.deepcopy(models)
    for model in alone:
        recalibrate_batchnorm([model], batches)
    recalibrate_batchnorm(models, iter(batches))
    for model, other in zip(models, alone, strict=True):
        for name, tensor in other.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_batch_statistics_leave_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(16, 3, 4, 4) * 3 + 1
    with batch_statistics(model):
        normalised = model(x)
    assert normalised.mean().abs() < 1e-5
    assert model[1].training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_latency_is_measured_on_one_thread_and_puts_threads_back():
    threads = torch.get_num_threads()
    assert latency_ms(nn.Linear(4, 4), torch.zeros(1, 4), repeats=3) > 0
    large, small = nn.Linear(2000, 2000), nn.Linear(2000, 2)
    slow, fast = latencies_ms([large, small], torch.zeros(1, 2000), repeats=5)
    assert slow > fast
    assert torch.get_num_threads() == threads


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


def spec() -> NetworkSpec:
    return NetworkSpec("resnet8-half", 10, 1, 12, (0.3,), (0.4,), 0.42, None)


def test_a_saved_subnetwork_loads_with_the_same_outputs(tmp_path: Path):
    torch.manual_seed(0)
    network = spec().build().eval()
    widths = network.space.random(torch.Generator().manual_seed(1))
    x = torch.rand(2, 1, 12, 12)
    save_supernet(tmp_path / "supernet", network, spec())
    save_subnetwork(tmp_path / "sub", network.extract(widths), spec(), widths, {"id": "w-1"})
    torch.testing.assert_close(joslim.load(tmp_path / "sub")(x), network(x, widths))
    loaded, loaded_spec = load_supernet(tmp_path / "supernet")
    assert loaded_spec == spec()
    assert torch.equal(loaded.eval()(x), network(x))


def test_damaged_networks_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"spec.json cannot be read"):
        joslim.load(tmp_path)
    network = spec().build()
    save_supernet(tmp_path, network, spec())
    content = json.loads((tmp_path / "spec.json").read_text())
    (tmp_path / "spec.json").write_text(json.dumps({**content, "widths": [7] * 6}))
    with pytest.raises(CheckpointError, match=r"weights.safetensors does not fit"):
        joslim.load(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is not a network's spec: .*missing 8 required"):
        joslim.load(tmp_path)


def tiny_factory(num_classes: int, in_channels: int) -> nn.Module:
    """A user's own network, named as test_evaluation:tiny_factory."""
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.Flatten(), nn.LazyLinear(num_classes))


def failing_factory(num_classes: int, in_channels: int) -> nn.Module:
    raise KeyError("boom")


def number_factory(num_classes: int, in_channels: int) -> int:
    return 3


def seven_factory(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Gate()
    )


class Gate(nn.Module):
    """Which way it goes depends on the image, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) if x.sum() > 0 else -self.head(x)


def test_a_spec_with_leaves_and_its_number_of_outputs(tmp_path: Path):
    mine = "test_evaluation:seven_factory"
    with pytest.raises(TracingError, match=r"or network.leaves: \['test_evaluation:Gate'\]"):
        replace(spec(), network=mine, num_classes=7).build()
    followed = replace(spec(), network=mine, num_classes=7, leaves=("test_evaluation:Gate",))
    with pytest.raises(TracingError, match="no channel group can change its width"):
        followed.build()
    with pytest.raises(NetworkError, match=r"'test_evaluation:spec' is .*; expected a class of"):
        replace(spec(), leaves=("test_evaluation:spec",)).build()
    ten = replace(spec(), network="test_evaluation:two_convolutions", num_classes=10)
    with pytest.raises(NetworkError, match=r"gives \(2, 7\) for 2 images; expected \(2, 10\)"):
        ten.build()
    save_supernet(tmp_path, replace(ten, num_classes=7).build(), followed)
    assert load_spec(tmp_path)[0] == followed


def two_convolutions(num_classes: int, in_channels: int) -> nn.Module:
    convolutions = nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 7, 3)
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_evaluation:failing_factory", r"in_channels=1\) fails with KeyError: 'boom'"),
        ("test_evaluation:number_factory", r"in_channels=1\) gives 3; expected an nn.Module"),
        ("resnet9", r"network is 'resnet9'; expected one of resnet8, resnet14"),
        ("resnet8-third", r"network is 'resnet8-third'; expected one of"),
        ("torchvision:resnet19", r"torchvision has no network 'resnet19'; the closest are resnet1"),
        ("nowhere:net", r"'nowhere:net' cannot be imported: .*; expected package.module:name"),
        ("torchvision:resnet18", r"takes images of 3 channels, not 1; set data.channels to 3"),
    ],
)
def test_unknown_networks_are_refused(name: str, message: str):
    with pytest.raises(NetworkError, match=message):
        joslim.networks.create(name, 10, in_channels=1)


def test_a_factory_is_called_by_name():
    model = joslim.networks.create("test_evaluation:tiny_factory", 7, in_channels=2)
    assert model(torch.zeros(1, 2, 5, 5)).shape == (1, 7)
