"""The Markdown pages: lines that can be read, links that lead somewhere, commands that exist."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import SOURCE
from commands import NOT_RUN, commands, reason_not_run, runnable

NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = sorted(
    [page for name in NAMED if (page := SOURCE / name).exists()]
    + list((SOURCE / "docs").rglob("*.md"))
)
LONGEST = 100
"""Characters of a line of prose."""

FENCE = re.compile(r"^ *(```|~~~)")
CODE = re.compile(r"(`+).+?\1", re.DOTALL)
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)[^)]*\)|^ *\[[^\]]+\]: +(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE
)
"""The target of a link or picture: beside its text, at the end of the page, or in HTML."""

NOTHING_BUT_A_LINK = re.compile(
    r" *([-*+] |\d+\. )?(!?\[[^\]]*\]\([^)]*\)|\[[^\]]+\]: +\S+|<?https?://\S+)[.,;:]?"
)
SCHEME = re.compile(r"[a-z][a-z+.-]*:")
COMMAND = re.compile(r"\bpython\S*\s+-m\s+([A-Za-z_][\w.]*)")


per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SOURCE)))


def outside_of_fences(text: str) -> Iterator[tuple[int, str]]:
    """Lines by their number, without blocks of code."""
    fence = None
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        if fence is not None:
            fence = None if mark and mark[1] == fence else fence
        elif mark:
            fence = mark[1]
        else:
            yield number, line


def long_lines(text: str) -> list[int]:
    """Numbers of the lines of prose that are too long."""
    return [
        number
        for number, line in outside_of_fences(text)
        if len(line) > LONGEST
        if not line.lstrip().startswith("|") and not NOTHING_BUT_A_LINK.fullmatch(line.rstrip())
    ]


def targets(text: str) -> list[str]:
    """Where the links of a page lead to inside of this project."""
    prose = CODE.sub("", "\n".join(line for _, line in outside_of_fences(text)))
    found = ["".join(alternatives) for alternatives in LINK.findall(prose)]
    return [target for target in found if not SCHEME.match(target)]


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    found: dict[str, int] = {}
    for _, line in outside_of_fences(text):
        if heading := re.match(r"#{1,6} +(.*?)(?: +#+)?$", line):
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[1].strip())
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
            if found[slug]:
                found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def broken_links(page: Path) -> list[str]:
    """Targets that are not there."""
    broken = []
    for target in targets(page.read_text()):
        name, _, anchor = target.partition("#")
        file = SOURCE / name.removeprefix("/") if name.startswith("/") else page.parent / name
        file = file if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def modules(text: str) -> set[str]:
    """What ``python -m`` runs; a name in capitals stands for several modules of its package."""
    found = (name.rstrip(".").split(".") for name in COMMAND.findall(text))
    return {".".join(part for part in parts if not part.isupper()) for parts in found}


def is_module(name: str) -> bool:
    """Whether it can be imported; importing its packages to see."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_there_are_pages() -> None:
    names = {str(page.relative_to(SOURCE)) for page in PAGES}
    assert {"README.md", "docs/guides/training.md", "docs/results/experiments.md"} <= names


@per_page
def test_lines_of_prose_are_not_too_long(page: Path) -> None:
    assert long_lines(page.read_text()) == []


@per_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


@per_page
def test_commands_run_modules_that_exist(page: Path) -> None:
    assert [name for name in modules(page.read_text()) if not is_module(name)] == []


def test_every_reason_not_to_run_a_command_is_one_of_some_command() -> None:
    given = {reason_not_run(command) for page in PAGES for command in commands(page)}
    assert given - {None} == set(NOT_RUN.values())


def test_commands_are_found_in_blocks_and_in_the_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `joslim lookup --budget\nmacs=1%` or `joslim`.\n\n"
        '```console\nmake run  # all\n.venv/bin/joslim front \\\n  --json\n{"an": "answer"}\n```\n'
        "```python\nx = 1\n```\n"
    )
    assert commands(page) == [
        "make run  # all",
        ".venv/bin/joslim front    --json",
        "joslim lookup --budget macs=1%",
    ]
    assert runnable(page) == ["joslim front    --json", "joslim lookup --budget macs=1%"]


def test_tables_code_and_bare_links_may_be_long() -> None:
    long = "a" * LONGEST
    prose = [f"| {long} |", "```", f"x = {long}", "```", f"![{long}](p.png)", f"- [{long}](p.md)."]
    assert long_lines("\n".join([*prose, f"[{long}](p.md) and more", f"{long}b", long])) == [7, 8]


def test_links_are_found_in_prose_but_not_in_code() -> None:
    text = "[a\nb](one.md#x) `[c](two.md)` ![d](three.png 'title') <https://e.org>\n[f]: four.md"
    assert targets(text) == ["one.md#x", "three.png", "four.md"]
    assert targets('<img src="five.png">') == ["five.png"]
    assert targets("~~~\n[a](b.md)\n~~~\n[c](https://d.org)") == []


def test_anchors_are_those_of_github() -> None:
    text = (
        "# torchvision's `NAME`: 3 × 4\n## Same\n### Same\n```\n# no heading\n```\n## [A b](c.md)_d"
    )
    assert anchors(text) == {"torchvisions-name-3--4", "same", "same-1", "a-b_d"}


def test_modules_of_commands_are_found() -> None:
    text = "`python -m\nbenchmarks.scale`, .venv/bin/python3.11 -m pipelines.stages.NAME, -m other"
    assert modules(text) == {"benchmarks.scale", "pipelines.stages"}
    assert modules("python -m pipelines.<stage>") == {"pipelines"}
    assert is_module("benchmarks.scale")
    assert not is_module("pipelines.none.such")
