from pathlib import Path

from settings_file import write

from pipelines.settings.loading import read_params
from pipelines.settings.network import plan
from pipelines.settings.paths import PARAMS


def test_limits_stand_between_the_largest_and_the_smallest_network(tmp_path: Path) -> None:
    file = write(tmp_path / PARAMS, "budgets", both={"macs": "50%", "latency": "1s"})
    found = plan(read_params(file), file)
    assert len(found.classes) == 10
    latency, macs = found.budgets["both"]
    assert (latency.limit.text, macs.limit.text) == ("1s", "50%")
    assert 0 < macs.smallest < macs.limit.resolve(macs.full) == macs.full / 2
    assert latency.smallest > 0
    assert found.profiles == []
