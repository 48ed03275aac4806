"""Run by `tests/joslim/test_device.py`: results, with "gpu" of the pretended one."""

import json
import sys

if "gpu" in sys.argv:
    import pretended_gpu

import torch
from small_training import config, data, spec, trainer

from joslim.finetuning import finetune
from joslim.front import Subnetworks
from joslim.supernet.artifact import slimmable_model
from joslim.supernet.slimmable_model import Configuration
from joslim.training.refresh import refresh_history


def main() -> None:
    training = [(p.full_loss, p.proposals_loss) for p in trainer().run()]
    torch.manual_seed(0)
    network, images = spec().build(), data()
    subnetworks = Subnetworks(network, images, 32)
    smallest = network.space.smallest
    model = subnetworks.get(smallest)
    front = subnetworks.measure(model, images).numbers()
    options = {"epochs": 2, "learning_rate": 0.05, "seed": 0}
    tuning = [(p.loss, p.val_top1) for p in finetune(model, images, images, config(), **options)]
    one = Configuration("w-0", smallest, {"macs": 1.0, "val_top1": 0.5})
    kept = slimmable_model(network, spec(), [(one, subnetworks.get(smallest))], {}).to("cpu")
    assert {p.device.type for p in kept.at("w-0").parameters()} == {"cpu"}
    search = trainer("two-stage").strategy
    refresh_history(network, search, [smallest], subnetworks.held_out(16))
    told = search.history.losses.tolist()
    on_device = sum(pretended_gpu.computed.values()) if "gpu" in sys.argv else 0
    print(json.dumps([training, list(front.values()), tuning, told, on_device]))


if __name__ == "__main__":
    main()
