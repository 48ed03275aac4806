"""A budget's model in files: what it has of its own, or all of it."""

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from joslim.supernet.private import Private, statistics
from joslim.supernet.slimmable_model import Configuration, SlimmableModel
from joslim.supernet.storage import load_subnetwork, save_subnetwork
from joslim.supernet.subnetwork import Subnetwork
from pipelines.artifacts.files import read
from pipelines.settings import paths

DESCRIPTION, PRIVATE = "budget.json", "private.safetensors"


@dataclass(frozen=True)
class BudgetModel:
    """What `finetune` writes down of a budget's model.

    Attributes:
        budget: Its name.
        front_id: Of the sub-network on the front that was trained on.
        limits: The budget's, as in ``params.yaml``.
        private: Which parameters are the budget's own.
        val_top1: After fine-tuning.
    """

    budget: str
    front_id: str
    limits: Mapping[str, Any]
    private: Private
    val_top1: float

    @property
    def folder(self) -> Path:
        return folder(self.budget)

    @property
    def is_shared(self) -> bool:
        """Whether the front's weights are its own, but for the private ones."""
        return self.private != "all"

    @classmethod
    def load(cls, budget: str) -> "BudgetModel":
        """Read what `save` wrote, without the tensors.

        Raises:
            DataError: If it is missing or damaged.
        """
        return read(folder(budget) / DESCRIPTION, lambda text: cls(**json.loads(text)))

    def save(self, subnetwork: Subnetwork, parameters: Iterable[str]) -> None:
        """Write the model down: ``parameters`` and norms' statistics, or all if none is shared."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.is_shared:
            self.folder.mkdir(parents=True)
            state = subnetwork.model.state_dict()
            own = [*statistics(subnetwork.model), *parameters]
            tensors = {name: state[name].cpu().contiguous() for name in own}
            save_file(tensors, self.folder / PRIVATE)
        else:
            provenance = {"kind": "budget", "budget": self.budget, "id": self.front_id}
            save_subnetwork(self.folder, replace(subnetwork, provenance=provenance))
        (self.folder / DESCRIPTION).write_text(json.dumps(asdict(self), indent=1) + "\n")

    def added_to(self, front: SlimmableModel, numbers: Mapping[str, float]) -> SlimmableModel:
        """The front's network with this model, which shares its weights, as a configuration."""
        widths = front.configuration(self.front_id).widths
        own = load_file(self.folder / PRIVATE)
        return front.extended([(Configuration(self.budget, widths, numbers), own)])

    def network(self, front: SlimmableModel, *, allow: Collection[str] = ()) -> nn.Module:
        """The model as a module in eval mode, to be measured.

        Args:
            front: The front's network.
            allow: Own code that it may be built from, as `joslim.load` takes it.
        """
        if not self.is_shared:
            return load_subnetwork(self.folder, allow=allow).model
        numbers = {**front.configuration(self.front_id).numbers, "val_top1": self.val_top1}
        return self.added_to(front, numbers).extract(self.budget)


def folder(budget: str) -> Path:
    """Where a budget's model is."""
    return paths.BUDGETS / budget
