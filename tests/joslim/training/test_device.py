"""Training, measuring and fine-tuning stay on the device; shown by one beside the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("on_pretended_gpu.py")


def run(*arguments: str) -> list[Any]:
    path = os.pathsep.join([str(SCRIPT.parents[3]), *sys.path])
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_on_another_device_nothing_is_mixed_and_the_results_are_those_of_the_cpu():
    *expected, nothing = run()
    *found, operations = run("gpu")
    assert nothing == 0
    assert operations > 10_000
    for there, here in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(there), torch.tensor(here), rtol=1e-2, atol=1e-2)
    _, front, tuning, _ = found
    assert front == pytest.approx(expected[1], abs=1e-5)
    assert tuning[0] == pytest.approx(expected[2][0], abs=1e-5)
