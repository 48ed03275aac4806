"""What people read on a registered model's page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from joslim.budgets import QUANTITIES
from pipelines.artifacts.latencies import DATE, DEVICE, DOUBT
from pipelines.registry.lookup import SLIMMABLE, Entry
from pipelines.terminal.printable import one_line

MAX_LENGTH = 5000
"""Characters that MLflow keeps of a description."""

MAX_CLASSES = 30
"""Of which the names are told."""

_TOPS = {"val_top1": "val top-1", "test_top1": "test top-1"}

HEADINGS = (*QUANTITIES, *_TOPS.values())
"""Of the columns that `cells` fills."""


def cells(numbers: Mapping[str, float]) -> list[str]:
    """A row of a table for people; empty where a number is not known."""
    costs, tops = _costs(numbers), _tops(numbers)
    return [costs.get(name, "") for name in QUANTITIES] + [tops.get(key, "") for key in _TOPS]


def tags(numbers: Mapping[str, float]) -> dict[str, str]:
    """What tells versions apart in a list; the model's metrics have the rest."""
    shown = {**_costs(numbers), **_tops(numbers)}
    return {key: shown[key] for key in ("macs", *_TOPS) if key in shown}


def sentence(numbers: Mapping[str, float]) -> str:
    """``11.8M macs, 78k params, …; 91.20% val top-1``."""
    costs = (f"{cost} {name}" for name, cost in _costs(numbers).items())
    tops = (f"{top} {_TOPS[key]}" for key, top in _tops(numbers).items())
    return f"{', '.join(costs)}; {', '.join(tops)}"


def latency_notes(entries: Sequence[Entry]) -> list[str]:
    """What the latencies of some versions were measured on, and which of them are in doubt."""
    devices, doubts = dict[str, None](), list[str]()
    for entry in entries:
        tags = entry.logged.tags
        for suffix in (key.removeprefix(DEVICE) for key in tags if key.startswith(DEVICE)):
            name = suffix.replace("_", "latency@", 1) or "latency"
            date = tags.get(DATE + suffix, "at an unknown date")
            devices[f"{name}: one image on {tags[DEVICE + suffix]}, {date}"] = None
            if doubt := tags.get(DOUBT + suffix):
                doubts.append(f"{name} of version {entry.version} may be less, as {doubt}")
    return [*devices, *doubts]


def describe(
    spec: Mapping[str, Any],
    dataset: str,
    classes: Sequence[str],
    latency_device: str,
    entries: Sequence[Entry],
) -> str:
    """The registered model's description, in Markdown.

    Args:
        spec: Of any of the sub-networks.
        dataset: Its name.
        classes: Class names, in the order of the logits.
        latency_device: What the latencies were measured on.
        entries: All versions of the current front; a budget's is the last.
    """
    name, budget = entries[-1].name, entries[-1].alias
    image = f"{spec['in_channels']}×{spec['image_size']}×{spec['image_size']}"
    names = ", ".join(map(_plain, classes[:MAX_CLASSES]))
    more = f" and {len(classes) - MAX_CLASSES} more" if len(classes) > MAX_CLASSES else ""
    head = (
        f"One **{_plain(spec['network'])}**, trained once on **{_plain(dataset)}**: a version with "
        f"all weights, `{name}@{SLIMMABLE}`, one for every width configuration of its front, and "
        f"one for every budget. `joslim lookup --model {name} --budget macs=50%` names the best "
        "one within a budget.\n\n"
        f"Takes float32 images in [0, 1] of shape N×{image}; gives {len(classes)} logits: "
        f"{names}{more}. Latencies are of one image on {_plain(latency_device)}.\n\n"
        "```python\n"
        f'model = mlflow.pyfunc.load_model("models:/{name}@{budget}")\n'
        "logits = model.predict(images)\n\n"
        f'network = mlflow.pyfunc.load_model("models:/{name}@{SLIMMABLE}")\n'
        'logits = network.predict(images, params={"budget": "macs=50%"})["logits"]\n```\n\n'
    )
    return with_table(head, entries)


def with_table(description: str, entries: Sequence[Entry]) -> str:
    """A registered model's description with the table of these versions, whatever table it had."""
    headings = _row(["version", "budget", *HEADINGS])
    head = description.partition(headings)[0]
    models = (entry for entry in entries if entry.kind != SLIMMABLE)
    budgets_last = sorted(models, key=lambda e: (e.numbers["macs"], e.kind == "budget"))
    rows = (
        _row([str(e.version), f"**{e.id}**" if e.kind == "budget" else "", *cells(e.numbers)])
        for e in budgets_last
    )
    table = "\n".join([headings, f"|---|---|{'---:|' * len(HEADINGS)}", *rows])
    return f"{head}{table}"[:MAX_LENGTH]


def _plain(name: str) -> str:
    """A name in which nothing is Markdown, HTML or a line break."""
    return re.sub(r"([\\`*_\[\]<>&|~#$])", r"\\\1", one_line(name))


def _row(cells: Sequence[str]) -> str:
    """A row of a Markdown table; its cells bring the room that MLflow's page leaves none of."""
    return "|" + "".join(f"{cell}&emsp;|" for cell in cells)


def _costs(numbers: Mapping[str, float]) -> dict[str, str]:
    known = (q for q in QUANTITIES.values() if q.column in numbers)
    return {q.name: q.format(numbers[q.column]) for q in known}


def _tops(numbers: Mapping[str, float]) -> dict[str, str]:
    return {key: f"{numbers[key]:.2%}" for key in _TOPS if key in numbers}
