"""Starts fast: reads ``params.yaml`` before PyTorch is imported."""

from pipelines.entry import require_packages


def main() -> None:
    from pipelines.settings.loading import read_params

    read_params()
    from pipelines.tune import search

    search.main()


if __name__ == "__main__":
    require_packages("python -m pipelines.tune")
    from pipelines.terminal.command import run_command

    run_command(main)
