"""What every command does around its work: stand in the checkout, fail in one line."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable

from rich.console import Console

from joslim.errors import JoslimError
from pipelines.settings import paths
from pipelines.settings.keys import with_keys


def run_command(main: Callable[[], None]) -> None:
    """Run ``main`` from the checkout's root; an expected error is printed without a traceback."""
    os.chdir(paths.root())
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        main()
    except JoslimError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]{type(error).__name__}[/]: ", end=""
        )
        print(with_keys(str(error)), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
