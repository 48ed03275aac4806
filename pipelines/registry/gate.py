"""The gate: whether a run's models may take over from those that the aliases point to.

They do together or not at all, as one network serves all of them: `lookup`, the version with all
weights and those of the budgets never disagree. Validation images decide; ``test`` chooses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from joslim.certainty import is_guessing, largest_fall_by_chance
from pipelines.registry.lookup import BEFORE, Entry, entry_of
from pipelines.registry.records import CURRENT, ROLLED_BACK, Records, RegisteredModel
from pipelines.registry.submissions import Collection, Submission

TOP1 = "val_top1"

VAL_DIGEST, NUM_VAL = "val_digest", "num_val"
"""Tags of a model: which validation images its numbers are of, and how many."""


@dataclass(frozen=True)
class Comparison:
    """A budget's model beside the one before it.

    Attributes:
        version: Of the new model.
        top1: Its validation top-1.
        before: Version that the budget's alias pointed to before; None: there was none.
        before_top1: That one's validation top-1; None: not known.
        allowed: How far below it the new model may be by chance; None: not compared.
        reason: Why it may not take over; empty if it may.
        note: What else to know of the comparison; may be empty.
    """

    budget: str
    version: int
    top1: float
    before: int | None
    before_top1: float | None
    allowed: float | None
    reason: str
    note: str


@dataclass(frozen=True)
class Decision:
    """What the gate says of a run's models.

    Attributes:
        comparisons: One per budget.
        reasons: Why they are held back; empty if they are not.
    """

    comparisons: tuple[Comparison, ...]
    reasons: tuple[str, ...]

    @property
    def takes_over(self) -> bool:
        return not self.reasons

    @property
    def reason(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def decide(
    collection: Collection, versions: Mapping[str, int], records: Records, model: RegisteredModel
) -> Decision:
    """Decide from what the registry holds; the same again, until that changes.

    Models that have taken over already are compared with those before them, and stay.

    Args:
        collection: What shall take over.
        versions: Of its submissions, by digest.
        records: Of the registry.
        model: As it is now.
    """
    is_current = model.tags.get(CURRENT) == collection.front
    comparisons = tuple(
        compare(
            submission,
            versions[submission.digest],
            _holder(records, model, (BEFORE if is_current else "") + submission.alias),
            collection,
        )
        for submission in collection.submissions
        if submission.kind == "budget" and submission.alias
    )
    return Decision(comparisons, () if is_current else _reasons(collection, comparisons, model))


def _holder(records: Records, model: RegisteredModel, alias: str) -> Entry | None:
    version = model.aliases.get(alias)
    return None if version is None else entry_of(records, model, version)


def _reasons(
    collection: Collection, comparisons: tuple[Comparison, ...], model: RegisteredModel
) -> tuple[str, ...]:
    if when := model.tags.get(f"{ROLLED_BACK}{collection.front}"):
        return (f"rolled back on {when}; `joslim rollback` goes forward again",)
    if collection.require == "nothing":
        return ()
    return tuple(f"{one.budget}: {one.reason}" for one in comparisons if one.reason)


def compare(
    submission: Submission, version: int, before: Entry | None, collection: Collection
) -> Comparison:
    """A budget's model beside the one that its alias points to, if there is one."""
    top1, validation = submission.numbers[TOP1], collection.validation
    reason = _own_fault(submission, collection)
    before_top1 = before.numbers.get(TOP1) if before else None
    allowed, note = None, ""
    if before and before_top1 is None:
        note = f"no val top-1 is known of version {before.version}: not compared"
    elif before and (unmet := _unmet_by(before, submission, collection)):
        note = f"version {before.version} is not within {unmet}: not compared"
    elif before and before_top1 is not None:
        num_before = int(before.logged.tags.get(NUM_VAL, validation.num_images))
        allowed = largest_fall_by_chance(before_top1, num_before, top1, validation.num_images)
        if before.logged.tags.get(VAL_DIGEST, "") != validation.digest:
            which = "other" if VAL_DIGEST in before.logged.tags else "unknown"
            note = f"version {before.version} was measured on {which} validation images"
        if before_top1 - top1 > allowed and not reason:
            reason = (
                f"val top-1 {top1:.2%} is below version {before.version}'s {before_top1:.2%} by "
                f"more than chance explains ({100 * allowed:.2f} points)"
            )
    number = before.version if before else None
    return Comparison(submission.id, version, top1, number, before_top1, allowed, reason, note)


def _own_fault(submission: Submission, collection: Collection) -> str:
    """What speaks against a model whatever was before it; empty if nothing does."""
    top1, validation = submission.numbers[TOP1], collection.validation
    if is_guessing(top1, validation.num_images, validation.guess):
        return (
            f"val top-1 {top1:.2%} is no better than a guess: always naming the most frequent "
            f"class gives {validation.guess:.2%} ({validation.num_images:,} images)"
        )
    for limit in submission.limits:
        cost = submission.numbers.get(limit.quantity.column)
        if cost is None or cost > limit.resolve(collection.full.get(limit.quantity.column)):
            shown = "unknown" if cost is None else limit.quantity.format(cost)
            return f"its {limit.quantity.name} is {shown}, expected {limit}"
    return ""


def _unmet_by(before: Entry, submission: Submission, collection: Collection) -> str:
    """Limits that have changed so that the model before does not keep to them; empty if none."""
    if before.logged.tags.get("limits") == submission.tags.get("limits"):
        return ""
    unmet = [
        str(limit)
        for limit in submission.limits
        if before.numbers.get(limit.quantity.column, float("inf"))
        > limit.resolve(collection.full.get(limit.quantity.column))
    ]
    return " and ".join(unmet)
