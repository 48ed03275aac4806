"""The terminal that the pipeline prints to."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pipelines.terminal.printable import printable


class PlainConsole(Console):
    """A terminal to which every string is text: rich's own markup has no meaning in it.

    Names of files, classes and models may look like markup. Styles are given as such, by ``style``
    or by `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Whatever is printed passes here, cells of tables too."""
        kept = {key: options[key] for key in ("style", "justify", "overflow") if key in options}
        return Text(printable(text), **kept)


console = PlainConsole()


def complain(kind: str, text: object) -> None:
    """Print an error to the standard error: ``kind: text``."""
    stderr = PlainConsole(stderr=True)
    stderr.print(f"{kind}: ", style="bold red", end="")
    stderr.print(str(text), soft_wrap=True)
