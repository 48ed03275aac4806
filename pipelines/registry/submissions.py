"""What shall be in MLflow's registry: one network for all budgets, and a version for each."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from joslim.budgets import Budget
from pipelines.registry.lookup import Entry, alias_of
from pipelines.registry.records import FULL
from pipelines.settings.register_params import Require

Kind = Literal["slimmable", "front", "budget"]
"""The network with all weights, a slice of it on the front, or a budget's model."""


@dataclass(frozen=True)
class Submission:
    """A model on its way into the registry.

    Attributes:
        kind: What it is.
        id: The front's id of it, or the budget's name; of the slimmable network its kind.
        folder: What `joslim.load` reads.
        content: Digest of what is in it, as `digest_of_files`.
        is_slice: It has no weights of its own, but is a configuration of the collection's slimmable
            network, which is what ``folder`` holds then.
        numbers: Metrics; unknown ones left out.
        tags: Of the model.
        labels: Tags of the version, for people.
        summary: A sentence for people.
        limits: Of a budget's model, the budget's.
    """

    kind: Kind
    id: str
    folder: Path
    content: str
    is_slice: bool
    numbers: Mapping[str, float]
    tags: Mapping[str, str]
    labels: Mapping[str, str]
    summary: str
    limits: Budget = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is registered: the same for the same submission."""
        told = [dict(self.numbers), dict(self.tags), dict(self.labels), self.summary]
        return _digest([self.kind, self.id, json.dumps(told, sort_keys=True), self.content])

    @property
    def alias(self) -> str | None:
        """The alias that its version shall have."""
        return alias_of(self.kind, self.id)


@dataclass(frozen=True)
class Validation:
    """The images that models are chosen by.

    Attributes:
        digest: Of what they are.
        num_images: How many.
        guess: Top-1 of who always names their most frequent class.
    """

    digest: str
    num_images: int
    guess: float


@dataclass(frozen=True)
class Collection:
    """Everything that a registered model shall hold after registration.

    Attributes:
        name: The registered model's.
        submissions: The slimmable network first.
        spec: The network's, as in ``spec.json``.
        full: Cost of the full network per column.
        validation: The images that ``val_top1`` is of.
        require: What its models need to take over from those registered before.
        describe: Makes the registered model's description, in Markdown.
    """

    name: str
    submissions: Sequence[Submission]
    spec: Mapping[str, Any]
    full: Mapping[str, float]
    validation: Validation
    require: Require
    describe: Callable[[Sequence[Entry]], str]

    @cached_property
    def front(self) -> str:
        """Name of this set of submissions, by their digests."""
        return _digest(submission.digest for submission in self.submissions)[:16]

    @property
    def costs(self) -> dict[str, str]:
        """Tags that say what the full network costs."""
        return {f"{FULL}{column}": f"{cost:.15g}" for column, cost in self.full.items()}

    @property
    def aliases(self) -> dict[str, str]:
        """The digest of the submission that each alias shall point to."""
        return {s.alias: s.digest for s in self.submissions if s.alias}


def digest_of_files(folder: Path) -> str:
    """SHA-256 of the names and contents of the files in a folder."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return _digest(f"{f.name} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
