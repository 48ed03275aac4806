"""A copy of the sources where the pipeline is run as a user would."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).resolve().parent.parent


class Checkout:
    """A copy of the sources where the pipeline is run as a user would."""

    def __init__(self, root: Path, params: dict[str, Any]) -> None:
        self.root = root
        self.flow_output = ""
        for name in ("joslim", "pipelines"):
            shutil.copytree(SOURCE / name, root / name)
        for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(SOURCE / name, root / name)
        (root / ".dvc").mkdir()
        shutil.copy(SOURCE / ".dvc/config", root / ".dvc/config")
        self.write_params(params)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PREFECT_HOME": str(root / ".prefect"),
            "DVC_NO_ANALYTICS": "1",
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        self.run("git", "init", "--quiet")

    def write_params(self, params: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = self.attempt(*command, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True
        )

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def joslim(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "pipelines.cli", *arguments)

    def read(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())
