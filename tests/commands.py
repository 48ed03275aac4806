"""The commands of the Markdown pages, as a reader would type them."""

import re
from pathlib import Path

NOT_RUN = {
    r"make\b": "installs everything, runs the pipeline, or runs these tests",
    r"\. \.venv/bin/activate$": "the tests run in an environment that is active",
    r"pip install\b": "likewise",
    r"python -m pipelines\.flow --serve": "waits; test_flow.py interrupts it",
    r"(export PREFECT_API_URL|prefect )": "needs a Prefect server, which test_pool.py starts",
    r"(dask |\w+=\S+ dask |DASK_SCHEDULER)": "waits for other machines; see test_cluster.py",
    r"python -m pipelines\.tune$": "test_pipeline.py runs it where a search goes on",
    r"(export MLFLOW_TRACKING_URI|mlflow models serve|curl )": "waits; see test_served.py",
    r"joslim rollback\b": "there is no run before the first; test_taking_over.py goes back",
    r"joslim profile\b": "the small run has fewer than the eight configurations that it needs",
    r"(python run\.py --profile|cp pi5\.json|.*latency@pi5)": "of a device that is not here; "
    "test_pipeline.py has a made-up one",
}
"""Why commands are not run with the others, by how they start."""

REPLACED = {".venv/bin/": ""}
"""Parts of commands: the environment is another."""

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(joslim [^`]+)`")


def commands(page: Path) -> list[str]:
    """All lines of the page's ``console`` blocks, and what is said of ``joslim`` in its text."""
    text = page.read_text()
    blocks = "".join(_BLOCK.findall(text)).replace("\\\n", " ")
    typed = [line for line in blocks.splitlines() if not line.startswith("{")]
    inline = [" ".join(command.split()) for command in _INLINE.findall(_BLOCK.sub("", text))]
    return list(dict.fromkeys(typed + [command for command in inline if " --" in command]))


def reason_not_run(command: str) -> str | None:
    """Why it is not run with the others; None if it is."""
    return next((why for start, why in NOT_RUN.items() if re.match(start, command)), None)


def runnable(page: Path) -> list[str]:
    """The commands of a page that are run, in their order."""
    found = [command for command in commands(page) if reason_not_run(command) is None]
    for part, other in REPLACED.items():
        found = [command.replace(part, other) for command in found]
    return list(dict.fromkeys(found))
