"""Sums by shared memory, against `torch.distributed`'s."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from joslim import local_sum
from joslim.errors import ProcessError
from joslim.local_sum import CAPACITY, LocalSum, sum_

SIZE = 3


@pytest.mark.parametrize("on_one_machine", [True, False])
def test_all_get_the_same_sum(
    on_one_machine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(SIZE if on_one_machine else 1))
    torch.multiprocessing.spawn(_compare, (tmp_path, on_one_machine), nprocs=SIZE)
    sums = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]
    for others in sums[1:]:
        for first, other in zip(sums[0], others, strict=True):
            assert torch.equal(first, other)
    assert not list(tmp_path.glob("joslim-*"))


def _compare(rank: int, folder: Path, on_one_machine: bool) -> None:
    torch.set_num_threads(1)
    local_sum.tempfile.tempdir = str(folder)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=SIZE
    )
    generator = torch.Generator().manual_seed(rank)
    sums = []
    for count, dtype in ((1, torch.float32), (2 * CAPACITY + 1, torch.float32), (9, torch.float64)):
        for _ in range(50):
            values = torch.randn(2, count, generator=generator, dtype=dtype)
            expected = values.clone()
            dist.all_reduce(expected)
            sum_(values)
            torch.testing.assert_close(values, expected)
            sums.append(values)
    assert isinstance(local_sum._local_sums[dist.group.WORLD], LocalSum) == on_one_machine
    torch.save(sums, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_who_waits_for_a_process_that_does_not_come_gives_up(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_wait_in_vain, (tmp_path,), nprocs=2)


def _wait_in_vain(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    local = LocalSum()
    if rank == 0:
        local_sum.PATIENCE_SECONDS = 0.1
        with pytest.raises(ProcessError, match=r"processes \[1\] of this training have not come"):
            local.add(torch.ones(1))
    dist.barrier()
    dist.destroy_process_group()


def test_every_group_of_a_process_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    torch.multiprocessing.spawn(_join_again, (tmp_path,), nprocs=2)


def _join_again(rank: int, folder: Path) -> None:
    for number in range(4):
        store = f"file://{folder}/store{number}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        values = torch.tensor([float(rank), 1.0])
        sum_(values)
        assert values.tolist() == [1.0, 2.0]
        dist.destroy_process_group()
    assert len(local_sum._local_sums) <= 1
