import os
import sys
from pathlib import Path

import pytest
from generated_data import write_fashion_mnist

# The networks of these tests are too small for more threads; read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Debian's, with 600 generated training and 200 test images."""
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))


@pytest.fixture(autouse=True)
def no_workers_after_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read images in this process if Prefect has run in it: what it forks then ends with exit code
    1 (Prefect 3.8), which PyTorch's DataLoader takes for a crash. No stage imports Prefect."""
    if "prefect" in sys.modules:
        monkeypatch.setattr("joslim.data.workers.num_workers", lambda: 0)
