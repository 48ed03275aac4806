"""Odd files: some dozen of what ``python -m benchmarks.fuzz`` tries by the thousand."""

import pytest

from benchmarks.fuzz import Files, counts

EXAMPLES = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("number", range(10))
def test_an_odd_file_is_read_or_refused_in_words(number: int, files: Files) -> None:
    inputs, read = list(files.targets().values())[number]
    found = counts(inputs, read, EXAMPLES)
    assert found["refused"] > 0
    assert found.total() >= EXAMPLES / 2
