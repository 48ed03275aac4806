"""A training state on disk that survives a crash at any moment, and its own damage."""

import hashlib
import io
import os
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from joslim.errors import CheckpointError

_DIGEST_BYTES = hashlib.sha256().digest_size


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` is kept."""
    return path.with_suffix(f".previous{path.suffix}")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, followed by its SHA-256 digest, and keep what was there as `previous`.

    A crash at any moment leaves at least one whole checkpoint, if there was one: a damaged one is
    not kept. On a full disk it warns, and the old ones stay.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    draft = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        draft.unlink(missing_ok=True)
        warnings.warn(
            f"checkpoint {path} cannot be written: {error}; training goes on without it",
            stacklevel=2,
        )
        return
    if path.exists() and _state(path) is not None:
        path.replace(previous(path))
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at ``path``, or None if there is none. Holds tensors and plain values only.

    If it is damaged, or missing since a crash came between two renames, the previous one.

    Raises:
        CheckpointError: If all that there is is damaged.
    """
    found = [file for file in (path, previous(path)) if file.exists()]
    for file in found:
        if (state := _state(file)) is not None:
            return _loaded(file, state)
        rest = "; the one before it is used" if file != found[-1] else ""
        warnings.warn(f"checkpoint {file} is damaged: its digest is wrong{rest}", stacklevel=2)
    if not found:
        return None
    raise CheckpointError(
        f"no checkpoint is whole of {' and '.join(map(str, found))}; delete "
        f"{path.parent} to train from the start"
    )


def _loaded(file: Path, state: bytes) -> dict[str, Any]:
    try:
        loaded = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
    except Exception as error:  # as another version of PyTorch may not know what is in it
        reason = shorten(str(error), 300)
        raise CheckpointError(
            f"checkpoint {file} is whole, but cannot be read: {reason}; delete {file.parent} to "
            "train from the start"
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"checkpoint {file} is a {type(loaded).__name__}; expected a dict")
    return loaded


def _state(file: Path) -> bytes | None:
    """What was written before the digest; None if that says it is damaged."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {file} cannot be read: {error}") from error
    state, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return state if hashlib.sha256(state).digest() == digest else None
