"""Sums by shared memory, against `torch.distributed`'s."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from joslim import local_sum
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
    assert isinstance(local_sum._local_sum(dist.group.WORLD), LocalSum) == on_one_machine
    torch.save(sums, folder / f"{rank}.pt")
    dist.destroy_process_group()
