"""A checkout whose stages are a shell script each, to test what runs them."""

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
BUDGETS = ["tiny", "full"]
CHAIN = ["inputs", "prepare", "train", "front"]
STAGES = [*CHAIN, *(f"{s}@{b}" for s in ("finetune", "evaluate") for b in BUDGETS)]
STAGES += ["assemble", "register", "report"]

# Each stage notes that it ran, then does what the file `behaviour` holds for it, then writes.
DVC_YAML = """
stages:
  inputs:
    cmd: ./stage inputs data/inputs
    always_changed: true
    outs: [data/inputs]
  prepare:
    cmd: ./stage prepare data/prepared
    params: [seed]
    outs: [data/prepared]
  train:
    cmd: ./stage train models/supernet
    deps: [data/prepared]
    params: [training]
    outs: [models/supernet]
  front:
    cmd: ./stage front models/front
    deps: [models/supernet]
    outs: [models/front]
  finetune:
    foreach: ${budgets}
    do:
      cmd: ./stage finetune@${key} models/budgets/${key}
      deps: [models/front]
      params: ["budgets.${key}"]
      outs: ["models/budgets/${key}"]
  evaluate:
    foreach: ${budgets}
    do:
      cmd: ./stage evaluate@${key} reports/evaluated/${key}
      deps: ["models/budgets/${key}"]
      outs: ["reports/evaluated/${key}"]
  assemble:
    cmd: ./stage assemble models/slimmable
    deps: [models/budgets, reports/evaluated]
    outs: [models/slimmable]
  register:
    cmd: ./stage register reports/register
    always_changed: true
    deps: [models/slimmable]
    params: [budgets]
    outs: [reports/register]
  report:
    cmd: ./stage report reports/index
    deps: [reports/register, reports/evaluated]
    outs: [reports/index]
"""
STAGE = """#!/bin/sh
echo "$1 start" >> ran
eval "$(cat "behaviour/$1" 2>/dev/null)"
mkdir -p "$2" && echo "$1" > "$2/made"
echo "$1 end" >> ran
"""
WAIT_FOR_ALL_BUDGETS = f"""
for second in $(seq 300); do
    test "$(grep -c '^finetune@.* start' ran)" = {len(BUDGETS)} && break
    sleep 1
done
"""
"""Of a fine-tuning: waits long in vain where the budgets do not run side by side."""

FRONT = """id,macs,macs_fraction,params,memory_bytes,latency_ms,val_top1
w-1,3000000,0.25,20000,300000,1.2,0.89
"""


class Project:
    """A checkout whose stages are a shell script each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (".dvc", "behaviour", "reports/front"):
            (root / folder).mkdir(parents=True)
        (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (root / "dvc.yaml").write_text(DVC_YAML)
        (root / "stage").write_text(STAGE)
        (root / "stage").chmod(0o755)
        (root / "reports/front/front.csv").write_text(FRONT)
        (root / "reports/front/front.png").write_bytes(b"not looked at")
        self.write_params({name: {"macs": "100%"} for name in BUDGETS})
        top1 = {"slice": {"top1": 0.88}, "finetuned": {"top1": 0.9}, "private": "norms"}
        top1 |= {"macs": 3e6, "params": 2e4}
        versions = []
        for number, name in enumerate(BUDGETS, start=1):
            (root / "reports/evaluate" / name).mkdir(parents=True)
            (root / "reports/evaluate" / name / "metrics.json").write_text(json.dumps(top1))
            aliases = [f"budget-{name}"]
            versions.append({"id": name, "kind": "budget", "version": number, "aliases": aliases})
        comparisons = [
            {"budget": name, "version": number, "top1": 0.9, "before": None, "before_top1": None}
            | {"allowed": None, "reason": "", "note": ""}
            for number, name in enumerate(BUDGETS, start=1)
        ]
        registered = {"model": "joslim-test", "versions": versions}
        registered |= {"held_back": [], "comparisons": comparisons}
        (root / "reports/registered.json").write_text(json.dumps(registered))

    def write_params(self, budgets: dict[str, dict[str, str]]) -> None:
        text = (ROOT / "params.yaml").read_text()
        head, _, rest = text.partition("budgets:")
        tail = rest[rest.index("\ntune:") :]
        (self.root / "params.yaml").write_text(f"{head}budgets: {json.dumps(budgets)}\n{tail}")

    def behave(self, stage: str, script: str) -> None:
        (self.root / "behaviour" / stage).write_text(script)

    def ran(self) -> list[str]:
        """What has run since the last question, in order."""
        path = self.root / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


def wait_for_process(command: str, ancestor: int) -> list[psutil.Process]:
    """The descendants of a process, once one of them runs the command."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = psutil.Process(ancestor).children(recursive=True)
        with suppress(psutil.Error):
            if any(command == " ".join(process.cmdline()) for process in family):
                return family
        time.sleep(0.1)
    raise AssertionError(f"{command} has not started")
