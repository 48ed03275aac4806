"""Two processes on CPUs, started by torchrun, against one."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_training import data, trainer

from joslim.data import Augmentation, TrainingStream
from joslim.errors import DataError

SCRIPT = Path(__file__).with_name("train_in_processes.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def run_two(folder: Path, kill_at: int = 0) -> dict[str, Any]:
    command = [*LAUNCH, "--max-restarts=1", SCRIPT, folder, str(kill_at)]
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=SCRIPT.parent, env=environment
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_two(tmp_path_factory.mktemp("two"))


def test_two_processes_train_as_one_does_on_the_joint_batch(two: dict[str, Any]):
    alone = trainer(batch_size=8)
    steps = alone.run()
    next(steps)
    for name, parameter in alone.network.named_parameters():
        expected = parameter.grad
        assert expected is not None
        scale = expected.abs().max()
        close = torch.allclose(two["gradients"][name], expected, atol=1e-5 * scale)
        assert close, name
    list(steps)
    for name, tensor in alone.network.state_dict().items():
        torch.testing.assert_close(two["network"][name], tensor, rtol=1e-2, atol=1e-2)
    assert two["search"]["history"]["widths"] == alone.strategy.state_dict()["history"]["widths"]


def test_a_killed_process_is_restarted_and_the_result_is_the_same(
    two: dict[str, Any], tmp_path: Path
):
    again = run_two(tmp_path, kill_at=6)
    for name, tensor in two["network"].items():
        assert torch.equal(again["network"][name], tensor), name
    assert again["search"] == two["search"]


WAIT = """
import os, sys, time
from pathlib import Path
from joslim import distributed

with distributed.process_group():
    Path(sys.argv[1], str(distributed.rank())).write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_processes_end_when_torchrun_is_killed(tmp_path: Path):
    script = tmp_path / "wait.py"
    script.write_text(WAIT)
    launcher = subprocess.Popen(
        [*LAUNCH, script, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    files = [tmp_path / "0", tmp_path / "1"]
    while not all(file.exists() and file.read_text() for file in files):
        assert launcher.poll() is None
        time.sleep(0.1)
    workers = [psutil.Process(int(file.read_text())) for file in files]
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert alive == []


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(DataError, match="batch_size is 7; expected a multiple of 2, the number"):
        TrainingStream(data(), 7, seed=0, augmentation=Augmentation(), rank=0, size=2)
