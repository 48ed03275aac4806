"""What git and DVC know of the checkout."""

import hashlib
import subprocess

from pipelines.settings import paths


def git(*arguments: str) -> str:
    """What git prints; nothing where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=paths.root(), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def revisions() -> dict[str, str]:
    """Where code and results stand: git's commit, whether files differ from it, DVC's lock."""
    lock = paths.root() / paths.DVC_LOCK
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none"
    commit = git("rev-parse", "HEAD")
    dirty = "true" if git("status", "--porcelain", "--untracked-files=no") else "false"
    return {
        "git.commit": commit or "none",
        "git.dirty": dirty if commit else "none",
        "dvc.lock": digest,
    }
