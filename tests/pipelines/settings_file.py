"""The settings of ``params.yaml``, changed for a test."""

from pathlib import Path

import yaml
from script_project import ROOT


def write(path: Path, section: str, /, **values: object) -> Path:
    """Those for small colour images, with other values in a section."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["data"] |= {"channels": 3, "image_size": 32}
    settings[section] |= values
    path.write_text(yaml.safe_dump(settings))
    return path
