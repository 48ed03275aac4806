import os
from pathlib import Path

import pytest
from generated_data import write_fashion_mnist

# The networks of these tests are too small for more threads; read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Debian's, with 600 generated training and 200 test images."""
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))
