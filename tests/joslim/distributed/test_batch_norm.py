"""Batch norm over two processes, against PyTorch's on the joint batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from joslim.distributed import with_joint_batchnorm

SIZE, CHANNELS = 2, 6
SHAPES = {nn.BatchNorm1d: (8, CHANNELS), nn.BatchNorm2d: (8, CHANNELS, 3, 3)}


@pytest.fixture
def spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(SIZE))
    return tmp_path / "store"


def test_it_is_batch_norm_of_the_joint_batch(spawned: Path) -> None:
    torch.multiprocessing.spawn(_compare_all, (spawned,), nprocs=SIZE)


def _compare_all(rank: int, store: Path) -> None:
    _join(rank, store)
    for kind in SHAPES:
        for affine in (True, False):
            for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
                for mean in (0.0, 30.0):
                    _compare(kind, affine, dtype, mean, tolerance * (1 if mean == 0 else 2))
    dist.destroy_process_group()


def _compare(
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d],
    affine: bool,
    dtype: torch.dtype,
    mean: float,
    tolerance: float,
) -> None:
    """Outputs, gradients and running statistics of this process's half of a batch."""
    generator = torch.Generator().manual_seed(0)
    images = (mean + torch.randn(SHAPES[kind], generator=generator)).to(dtype)
    gradients = torch.randn(SHAPES[kind], generator=generator).to(dtype)
    joint, synced = kind(CHANNELS, affine=affine).double(), kind(CHANNELS, affine=affine)
    synced = with_joint_batchnorm(synced)
    half = slice(dist.get_rank(), None, SIZE)
    expected = _pass(joint, images.double(), gradients.double())
    found = _pass(synced, images[half], gradients[half])
    for own, whole in zip(found[:2], expected[:2], strict=True):
        _close(own, whole[half], tolerance)
    for parameter, other in zip(synced.parameters(), joint.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        dist.all_reduce(parameter.grad)
        _close(parameter.grad, other.grad, tolerance)
    assert isinstance(synced, nn.modules.batchnorm._BatchNorm)
    assert synced.running_var is not None
    assert joint.running_var is not None
    _close(synced.running_var, joint.running_var, tolerance)


def _pass(norm: nn.Module, images: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    output = norm(images)
    output.backward(gradients)
    assert images.grad is not None
    return output, images.grad


def _close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * scale)


def test_it_stays_finite_where_channels_hardly_vary(spawned: Path) -> None:
    torch.multiprocessing.spawn(_normalise, (spawned,), nprocs=SIZE)


def _normalise(rank: int, store: Path) -> None:
    _join(rank, store)
    norm = nn.BatchNorm2d(500)
    norm = with_joint_batchnorm(norm)
    generator = torch.Generator().manual_seed(rank)
    assert norm(50 + 1e-4 * torch.randn(4, 500, 2, 2, generator=generator)).isfinite().all()
    dist.destroy_process_group()


def _join(rank: int, store: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=SIZE)
