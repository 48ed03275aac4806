from collections.abc import Iterator
from pathlib import Path

import pytest
import script_project
import small_project
from http_server import running
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
    database = f"sqlite:///{registered_project.root}/mlflow.db"
    arguments = ("server", "--backend-store-uri", database, "--workers", "1")
    with running(*arguments, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as address:
        yield address


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> script_project.Project:
    """A checkout whose stages are shell scripts, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return script_project.Project(tmp_path)
