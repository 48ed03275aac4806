"""Runs a command that must not outlive its caller, not even if that is killed."""

import os
import signal
import subprocess
import sys
import threading

END_WITH_PARENT = (sys.executable, "-S", "-E", __file__)
"""What to put before a command. It needs a session of its own, and a pipe as standard input that
only the caller holds open: when the caller is gone, the whole session is."""


def main() -> int:
    # Not SIG_IGN, which the command would inherit: it hears the same signals and decides for both.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Files that the caller has passed on are meant for the command.
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)
    threading.Thread(target=_end_with_caller, daemon=True).start()
    return command.wait()


def _end_with_caller() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
