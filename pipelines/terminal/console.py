"""The terminal that the pipeline prints to."""

from rich.console import Console

console = Console(highlight=False)
