"""The ``joslim`` command: ask the registry for models."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from typer.core import TyperGroup

from joslim.budgets import parse_budget, quantity
from joslim.errors import BudgetError, ExportError, JoslimError
from pipelines.registry import lookup as registry_lookup
from pipelines.registry import standing
from pipelines.registry.lookup import Entry
from pipelines.registry.model_card import HEADINGS, cells, latency_notes
from pipelines.registry.records import REASON, RegisteredModel, connect
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import complain, console
from pipelines.terminal.printable import one_line


class _Commands(TyperGroup):
    """Expected errors become one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except JoslimError as error:
            complain("error", error)
            raise typer.Exit(1) from error


class Format(StrEnum):
    """File formats of `export`."""

    ONNX = "onnx"
    PT2 = "pt2"


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the best model for a budget in the registry at MLFLOW_TRACKING_URI, or in the "
    "checkout's own. And, before a run: check.",
)

_BUDGET = typer.Option(
    "--budget",
    "-b",
    metavar="LIMITS",
    help="Limits on macs, params, memory or latency: macs=12M, macs=50% (of the full network), "
    "or several that hold together: macs=12M,memory=4MiB.",
)
Name = Annotated[
    str | None, typer.Option("--model", help="Registered model, if there are several.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def lookup(
    budget: Annotated[list[str], _BUDGET],
    model: Name = None,
    as_json: Json = False,
) -> None:
    """The version with the best validation top-1 within each --budget."""
    budgets = [parse_budget(text) for text in budget]
    records = connect()
    chosen = registry_lookup.find_model(records, model)
    _tell_of_candidates(chosen)
    found = [registry_lookup.best_within(records, chosen, limits) for limits in budgets]
    if as_json:
        rows = [{"budget": b, **_json(e)} for b, e in zip(budget, found, strict=True)]
        print(json.dumps(rows, indent=1))
        return
    _print(chosen.name, found, budgets=budget)
    for uri in dict.fromkeys(entry.uri for entry in found):
        print(one_line(uri))


@app.command()
def front(model: Name = None, as_json: Json = False) -> None:
    """All versions of the current front and of its budgets, cheapest first."""
    records = connect()
    chosen = registry_lookup.find_model(records, model)
    _tell_of_candidates(chosen)
    entries = registry_lookup.current_front(records, chosen)
    if as_json:
        print(json.dumps([_json(entry) for entry in entries], indent=1))
    else:
        _print(chosen.name, entries)


@app.command()
def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; with --slimmable a folder.")
    ],
    budget: Annotated[str | None, _BUDGET] = None,
    slimmable: Annotated[
        bool,
        typer.Option(
            "--slimmable",
            help="All width configurations at once, their weights once. As onnx: a folder of one "
            "file of weights, a small graph for each, and a script that runs them. As pt2: a file "
            "with one program, whose widths are an input.",
        ),
    ] = False,
    format: Annotated[Format, typer.Option("--format", help="File format.")] = Format.ONNX,
    model: Name = None,
) -> None:
    """Write the best model within a budget as a file, or all of them with their weights once.

    What is written takes images in [0, 1] and gives logits.
    """
    if slimmable == (budget is not None):
        given = "both are given" if slimmable else "neither is given"
        raise BudgetError(f"export takes --budget, as macs=50%, or --slimmable; {given}")
    limits = parse_budget(budget) if budget is not None else None
    from joslim.shipping import export_onnx, export_pt2
    from pipelines.registry import export as exporter

    exporter.check(output, needs_onnx=format is Format.ONNX)
    records = connect()
    chosen = registry_lookup.find_model(records, model)
    if limits is None:
        entry = registry_lookup.slimmable_version(records, chosen)
        network = exporter.network(entry)
        if format is Format.ONNX:
            export_onnx(network, output)
            print(one_line(f"{entry.uri} -> {output}; run: python {output}/run.py"))
        else:
            export_pt2(network, output)
            print(one_line(f"{entry.uri} -> {output}"))
        return
    entry = registry_lookup.best_within(records, chosen, limits)
    write = exporter.to_onnx if format is Format.ONNX else exporter.to_pt2
    write(exporter.program(entry), output)
    print(one_line(f"{entry.uri} -> {output}"))


@app.command()
def check() -> None:
    """Check params.yaml, the images and the network it names; say what a run will do."""
    run_command(_check)


def _check() -> None:
    read_params()  # what is wrong by itself is told before PyTorch is imported
    from pipelines import check

    check.main()


@app.command()
def rollback(model: Name = None) -> None:
    """Let the models before the current ones take over again; once more goes forward again.

    Moves @slimmable and the alias of every budget, and what lookup answers by. `dvc repro` leaves
    it so, until it makes other models.
    """
    chosen, moves = standing.roll_back(model)
    console.print(chosen.name, style="bold", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("alias", "version", "now"):
        table.add_column(heading, justify="left" if heading == "alias" else "right")
    for move in moves:
        table.add_row(move.alias, str(move.before or "none"), str(move.now))
    console.print(table, "")


@app.command()
def profile(
    bundle: Annotated[Path, typer.Argument(help="Folder that `export --slimmable` has written.")],
    name: Annotated[str, typer.Option("--name", help="The device's, as in latency@NAME.")],
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of ONNX Runtime.")] = 1,
) -> None:
    """Time every width configuration on this device, for budgets such as latency@NAME=20ms.

    Writes profiles/NAME.json into the checkout. On a device without this project run
    `python run.py --profile NAME.json` in the bundle, and copy the file there.
    """
    from joslim.costs.profile import FEWEST
    from joslim.shipping import run_bundle
    from pipelines.registry import export as exporter

    quantity(f"latency@{name}")
    exporter.require_onnx("profile")
    if not (bundle / "bundle.json").is_file():
        raise ExportError(f"{bundle} has no bundle.json; expected what export --slimmable wrote")
    entries = json.loads((bundle / "bundle.json").read_text())["configurations"]
    if (count := len({tuple(entry["widths"]) for entry in entries})) < FEWEST:
        raise ExportError(
            f"{bundle} holds {count} width configurations; a profile needs at least {FEWEST}, to "
            "predict others by; raise front.num_proposals"
        )
    found = run_bundle.profile(threads, bundle)
    file = paths.root() / paths.PROFILES / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    title = f"{found['device']}, {found['date']}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("configuration")
    table.add_column("milliseconds", justify="right")
    table.add_column("may be less, as")
    for one in found["configurations"]:
        table.add_row(one["id"], f"{one['latency_ms']:.3f}", one["latency_doubt"])
    console.print(table, "")
    print(one_line(f"-> {file}"))


def _tell_of_candidates(model: RegisteredModel) -> None:
    if reason := model.tags.get(REASON):
        print(one_line(f"{model.name}: newer models are held back: {reason}"), file=sys.stderr)


def _json(entry: Entry) -> dict[str, Any]:
    return {
        "uri": entry.uri,
        "model": entry.name,
        "version": entry.version,
        "kind": entry.kind,
        "id": entry.id,
        "aliases": list(entry.aliases),
        "widths": [int(w) for w in entry.logged.tags.get("widths", "").split("-") if w.isdecimal()],
        **entry.numbers,
        **{key: tag for key, tag in entry.logged.tags.items() if key.startswith("latency_")},
    }


def _print(title: str, entries: Sequence[Entry], budgets: Sequence[str] = ()) -> None:
    table = Table(
        title=one_line(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    if budgets:
        table.add_column("budget", no_wrap=True)
    for heading in ("version", *HEADINGS):
        justify: Literal["left", "right"] = "left" if heading == "version" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for entry, budget in zip_longest(entries, budgets):
        version = f"{entry.version} {one_line(entry.id) if entry.kind == 'budget' else ''}"
        limits = [budget.replace(",", ",\n")] if budgets else []
        table.add_row(*limits, version, *cells(entry.numbers))
    console.print(table, "")
    for note in latency_notes(entries):
        console.print(note, style="dim", soft_wrap=True)


if __name__ == "__main__":
    app()
