import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import script_project
import small_project
from small_project import Project


@pytest.fixture(scope="session")
def project_files(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Not registered yet; copy it before changing it."""
    return small_project.make(tmp_path_factory.mktemp("files") / "project")


@pytest.fixture(scope="session")
def registered_project(project_files: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Registered once; not to be changed."""
    project = project_files.copy(tmp_path_factory.mktemp("registered") / "project")
    project.register()
    return project


@pytest.fixture(scope="session")
def server(registered_project: Project) -> Iterator[str]:
    """A real MLflow server in front of the registered project's database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    database = f"sqlite:///{registered_project.root}/mlflow.db"
    process = subprocess.Popen(
        [*command, "--backend-store-uri", database, "--workers", "1"],
        env={
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> script_project.Project:
    """A checkout whose stages are shell scripts, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return script_project.Project(tmp_path)
