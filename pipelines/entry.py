"""The ``joslim`` command, which tells what to install where only the library is."""

import importlib.util
import sys

PACKAGES = ("dvc", "hyperopt", "jinja2", "matplotlib", "mlflow", "pandas", "prefect", "psutil",
            "rich", "typer", "yaml")  # fmt: skip
"""Of the extra ``pipeline``."""


def main() -> None:
    """Run the command.

    Raises:
        SystemExit: With one line, if packages of the pipeline are missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"joslim: the command needs {', '.join(missing)}; run: pip install 'joslim[pipeline]' "
            "(in a checkout: pip install -e '.[pipeline]')"
        )
    from pipelines.cli import app

    app()


if __name__ == "__main__":
    main()
