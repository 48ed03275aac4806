"""Who a process is, in a word that stays its own after its number has been given to another."""

import socket
from pathlib import Path

import psutil

_CLOCK_SECONDS = 2.0
"""By which a process's start may be read differently."""


def _identity(process: psutil.Process) -> str:
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def this_process() -> str:
    """The identity of the process that asks."""
    return _identity(psutil.Process())


def dvc_process() -> str | None:
    """The nearest ancestor that is DVC."""
    for process in psutil.Process().parents():
        try:
            if any(Path(word).name == "dvc" for word in process.cmdline()[:4]):
                return _identity(process)
        except psutil.Error:
            continue
    return None


def is_local(identity: str) -> bool:
    """Whether it is a process of this machine; only of those can be said whether they live."""
    return identity.startswith(f"{socket.gethostname()}:")


def is_alive(identity: str) -> bool:
    """Whether a process of this machine still runs."""
    _, pid, created = identity.rsplit(":", 2)
    try:
        process = psutil.Process(int(pid))
        started = process.create_time()
        return abs(started - float(created)) < _CLOCK_SECONDS and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False
