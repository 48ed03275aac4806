"""The ``joslim`` command, and what every command says where only the library is installed."""

import importlib.util
import sys

PACKAGES = ("dvc", "hyperopt", "jinja2", "matplotlib", "mlflow", "pandas", "prefect", "psutil",
            "rich", "typer", "yaml")  # fmt: skip
"""Of the extra ``pipeline``."""


def require_packages(command: str) -> None:
    """Look whether the packages of the pipeline are there, without importing them.

    Args:
        command: As it was typed, for the error.

    Raises:
        SystemExit: With one line, if some are missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{command} needs {', '.join(missing)}; run: pip install 'joslim[pipeline]' "
            "(in a checkout: pip install -e '.[pipeline]')"
        )


def main() -> None:
    """Run ``joslim``."""
    require_packages("joslim")
    from pipelines.cli import app

    app()


if __name__ == "__main__":
    main()
