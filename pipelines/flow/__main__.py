"""Starts fast: looks for the pipeline's packages before one is imported."""

import sys

from pipelines.entry import require_packages

if __name__ == "__main__":
    require_packages("python -m pipelines.flow")
    from pipelines.flow.command import main

    sys.exit(main())
