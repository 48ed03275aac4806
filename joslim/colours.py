"""Colours by name, or as ``#rrggbb``; known without PyTorch."""

from PIL import ImageColor


def is_colour(name: str) -> bool:
    """Whether Pillow knows a colour of that name, or form, that is not transparent itself."""
    try:
        return len(ImageColor.getrgb(name)) == 3
    except ValueError:
        return False
