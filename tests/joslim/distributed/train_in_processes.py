"""Run by torchrun: trains as `tests/joslim/test_distributed.py` says, the first process saves."""

import os
import sys
from pathlib import Path

import torch
from small_training import trainer

from joslim import distributed


def main(folder: Path, kill_at: int) -> None:
    with distributed.process_group():
        run = trainer(batch_size=8)
        gradients: dict[str, torch.Tensor] = {}
        first_start = not (folder / "checkpoint.pt").exists()
        for step in run.run(folder / "checkpoint.pt", checkpoint_steps=4):
            if step.step == 1:
                gradients = {n: p.grad.clone() for n, p in run.network.named_parameters()}
            if first_start and step.step == kill_at and distributed.rank() == 1:
                os._exit(1)
        if distributed.rank() == 0:
            state = {"network": run.network.state_dict(), "gradients": gradients}
            torch.save(state | {"search": run.strategy.state_dict()}, folder / "end.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
