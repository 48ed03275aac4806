"""Which images are kept decoded."""

MEMORY_LIMIT = 4 * 2**30
"""Bytes that the decoded images of a dataset may take in memory."""


def decoded_bytes(num_images: int, channels: int, image_size: int) -> int:
    """Bytes that so many square images take in memory."""
    return num_images * channels * image_size**2


def fit_in_memory(num_images: int, channels: int, image_size: int) -> bool:
    """Whether so many square images take at most `MEMORY_LIMIT`."""
    return decoded_bytes(num_images, channels, image_size) <= MEMORY_LIMIT
