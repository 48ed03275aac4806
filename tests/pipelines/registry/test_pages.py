"""Pages as a browser renders them: headless Chromium, where it is installed."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from small_project import Project

BROWSER = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The page's own clock, which runs ahead while nothing is loading.
    "--virtual-time-budget=30000",
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")


def rendered_text(url: str, profile: Path) -> str:
    """What a page says after its scripts have run."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", done.stdout, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def test_mlflows_page_of_the_registered_model(
    registered_project: Project, server: str, tmp_path: Path
) -> None:
    text = rendered_text(f"{server}/#/models/joslim-resnet8-toy", tmp_path)
    assert "One resnet8 , trained once on toy" in text
    assert "budget-tiny" in text
    assert "emsp" not in text, "the space between columns is a space"
    for row in registered_project.rows():
        assert f"{float(row['val_top1']):.2%}" in text
    version = rendered_text(f"{server}/#/models/joslim-resnet8-toy/versions/5", tmp_path)
    assert "Fine-tuned for the budget tiny (macs ≤ 50%)" in version
    assert "85.50% test top-1" in version
