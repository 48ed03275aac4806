"""One program for all widths: outputs of each, bytes, and what it needs to run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from slimmable_folder import NETWORKS, colour_spec, images, load, save, with_budget
from small_training import spec

from joslim.errors import ExportError
from joslim.shipping import export_pt2
from joslim.supernet.private import statistics

RUN = """
import json, sys, torch
extra = {"configurations.json": ""}
exported = torch.export.load(sys.argv[1], extra_files=extra)
program = exported.module(check_guards=False)
images = torch.load(sys.argv[2])
logits = {}
for one in json.loads(extra["configurations.json"])["configurations"]:
    with torch.no_grad():
        logits[one["id"]] = program(images, one["widths"], exported.state_dict[one["private"]])
assert not [name for name in sys.modules if name.startswith("joslim")]
torch.save(logits, sys.argv[3])
"""


NAMES = [name for name in NETWORKS if name != "torchvision:densenet121"]
"""That one takes a minute to trace; `python -m benchmarks.shipping` has it."""


@pytest.mark.parametrize("name", NAMES)
def test_every_width_is_bit_for_bit_that_of_the_network_of_views(name: str, tmp_path: Path) -> None:
    save(tmp_path / "model", colour_spec(name))
    model = with_budget(load(tmp_path / "model"))
    export_pt2(model, tmp_path / "network.pt2")
    x = images(colour_spec(name))
    torch.save(x, tmp_path / "images")
    command = [sys.executable, "-c", RUN, "network.pt2", "images", "logits"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    found = torch.load(tmp_path / "logits")
    assert list(found) == [c.id for c in model.configurations]
    for identity, logits in found.items():
        assert torch.equal(logits, model.at(identity)(x)), identity


def test_widths_that_are_no_configuration_run_too(tmp_path: Path) -> None:
    save(tmp_path / "model", spec())
    model = load(tmp_path / "model")
    export_pt2(model, tmp_path / "network.pt2")
    network = spec().build().eval()
    network.model.load_state_dict(model.dense.state_dict())
    program = torch.export.load(tmp_path / "network.pt2").module(check_guards=False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _ in range(5):
            widths = network.space.random(generator)
            dense = network.extract(widths).eval()
            own = torch.cat(list(statistics(dense).values()))
            found = program(images(spec()), list(widths), own)
            assert torch.equal(found, dense(images(spec())))


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "model", spec())
    model = load(tmp_path / "model")
    (tmp_path / "there.pt2").touch()
    with pytest.raises(ExportError, match=r"there.pt2 exists already"):
        export_pt2(model, tmp_path / "there.pt2")
    monkeypatch.setattr("joslim.shipping.pt2_program.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="configuration 'w-0': the program differs by"):
        export_pt2(model, tmp_path / "network.pt2")
    assert not (tmp_path / "network.pt2").exists()
