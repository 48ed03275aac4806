"""What every command does around its work: stand in the checkout, fail in one line."""

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

from joslim.errors import JoslimError
from pipelines.settings import paths
from pipelines.settings.keys import with_keys
from pipelines.terminal.console import complain
from pipelines.terminal.printable import printable


def run_command(main: Callable[[], None]) -> None:
    """Run ``main`` from the checkout's root; an expected error is printed without a traceback.

    Raises:
        SystemExit: If it fails.
    """
    os.chdir(paths.root())
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.formatwarning = lambda message, *_: f"warning: {printable(message)}\n"
    try:
        main()
    except JoslimError as error:
        complain(type(error).__name__, with_keys(str(error)))
        sys.exit(1)
    except Exception:
        print(printable(traceback.format_exc()), end="", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
