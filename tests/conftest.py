from pathlib import Path

import pytest
from generated_data import write_fashion_mnist


@pytest.fixture(scope="session")
def fashion_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Debian's, with 600 generated training and 200 test images."""
    return write_fashion_mnist(tmp_path_factory.mktemp("fashion-mnist"))
