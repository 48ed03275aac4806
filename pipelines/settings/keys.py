"""The library's errors in the terms of ``params.yaml``."""

import re

KEYS = {
    "in_channels": "data.channels",
    "path": "data.path",
    "weights": "network.weights",
    "min_width": "network.min_width",
    "divisor": "network.divisor",
    "leaves": "network.leaves",
    "private": "finetune.private",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "steps_per_proposal": "training.steps_per_proposal",
    "lighting": "training.lighting",
    "refresh_images": "training.refresh_images",
}
"""The key that decides an argument of the library."""

_ARGUMENT = re.compile(rf"(?<![\w.'])({'|'.join(KEYS)})(?= is |=\()")


def with_keys(text: str) -> str:
    """An error of the library with ``training.batch_size is 8`` instead of ``batch_size is 8``."""
    return _ARGUMENT.sub(lambda match: KEYS[match[1]], text)
