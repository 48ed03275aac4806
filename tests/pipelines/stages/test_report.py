import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import finished_run
import pandas as pd
import pytest
import yaml

from joslim.errors import DataError
from pipelines.artifacts.files import read_json
from pipelines.artifacts.latencies import MeasuredOn
from pipelines.artifacts.mistakes import MOST
from pipelines.artifacts.reported_model import ReportedModel
from pipelines.settings import paths
from pipelines.stages import report

SETTINGS = Path(__file__).resolve().parents[3] / "params.yaml"
VOID = {"meta", "br", "link", "img", "input", "hr"}
OPTIONAL = {"th", "td"}

Write = Callable[..., None]
ONE = {"only": {"macs": "100%"}}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a finished run's files into the working directory."""

    def write_run(**options: Any) -> None:
        finished_run.write_run(tmp_path, **options)
        settings = yaml.safe_load(SETTINGS.read_text())
        settings["budgets"] = options.get("budgets", finished_run.BUDGETS)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        (tmp_path / "dvc.yaml").touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return write_run


def render() -> str:
    return report.render(report.Inputs.load())


class Balance(HTMLParser):
    """Collects tags that are left open or closed without having been opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID | OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in OPTIONAL:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_tells_the_run_and_needs_no_network(write: Write) -> None:
    write()
    page = render()
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for name in finished_run.BUDGETS:
        model = read_json(paths.EVALUATE / name / "metrics.json")
        assert f"{100 * model['finetuned']['top1']:.2f} %" in text
        assert f"models:/joslim-x@budget-{name}" in text
        assert model["front_id"] in text
    assert re.search(r"joslim lookup --model joslim-\S+ --budget macs=25%", text)
    assert "1,680" in text
    assert "0.6845" in text
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in text
    assert re.search(r"1,204\s+files ending in .heic, passed over\s+Coat/IMG_0017.heic", text)
    assert "resnet8-half on fashion-mnist" in re.sub(r"\s+", " ", text)
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= namespaces
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=\"(?!data:image/)", page)
    assert str(Path.cwd()) not in page


def test_the_page_is_well_formed_and_the_same_for_the_same_inputs(write: Write) -> None:
    write(num_candidates=4, budgets=ONE)
    page = render()
    assert render() == page
    balance = Balance()
    balance.feed(page)
    assert balance.wrong == []
    assert balance.open == []


def test_names_from_outside_are_escaped(write: Write) -> None:
    names = ["<script>alert(1)</script>", "a & b", "None", "日本語", "$x_1$ ${y}"]
    write(classes=names, num_candidates=6, budgets=ONE)
    page = render()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &amp; b" in page
    assert "Bag/&lt;2&gt;.jpg" in page
    assert '<th scope="row">None</th>' in page


def test_a_front_of_one_network(write: Write) -> None:
    write(num_candidates=1, budgets=ONE)
    page = render()
    assert "one network on its front" in page


def test_images_are_shown_with_their_names(write: Write) -> None:
    write(num_candidates=4)
    page = render()
    assert 'aria-label="7 training images of Sandal"' in page
    rows = len(finished_run.FASHION)
    assert (
        page.count('<img src="data:image/png') == 7 * rows + rows + len(finished_run.BUDGETS) * MOST
    )
    (mistake, _), *_ = ReportedModel.load("tiny", read_json(paths.REGISTERED)).mistakes
    assert re.search(
        rf'alt="test image {mistake.index}"><span [^>]+>{mistake.label}</span>'
        rf'<span class="wrong" [^>]+>{mistake.prediction}</span><small>99 %</small>',
        page,
    )
    assert len(page) < 900_000


def test_of_many_classes_some_are_shown(write: Write) -> None:
    names = [f"kind {i}" for i in range(40)]
    write(classes=names, num_candidates=4, budgets=ONE)
    page = render()
    assert "12 of 40 classes" in page
    assert page.count('role="img" aria-label="7 training images of kind') == 12


def test_images_that_training_leaves_as_they_are_are_shown_once(write: Write) -> None:
    write(num_candidates=4, budgets=ONE)
    settings = yaml.safe_load(paths.PARAMS.read_text())
    settings["training"] |= {"crop_padding": 0, "flip": False}
    paths.PARAMS.write_text(yaml.safe_dump(settings))
    assert "as a step of training changes it" not in render()


def test_latencies_say_what_they_were_measured_on_and_what_is_in_doubt(write: Write) -> None:
    write(num_candidates=4, budgets=ONE)
    assert "one image on AMD EPYC, onnxruntime 1.32.0, 1 thread, 2026-01-31" in render()
    metrics = read_json(paths.FRONT_REPORT / "metrics.json")
    reason = "the process waited for a processor in 40% of the time"
    cheapest, *_ = ids = pd.read_csv(paths.FRONT_REPORT / "front.csv")["id"].tolist()
    there = MeasuredOn("latency_ms_pi5", "a board, 4 threads", "", {reason: ["w-1", cheapest]})
    all_of_them = MeasuredOn("latency_ms_pi6", "a board, 8 threads", "2026-02-01", {reason: ids})
    metrics |= there.metrics | all_of_them.metrics
    (paths.FRONT_REPORT / "metrics.json").write_text(json.dumps(metrics))
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", render())))
    assert "latency@pi5 one image on a board, 4 threads" in text
    assert f"a board, 4 threads w-1 , {cheapest} may really be faster: {reason}." in text
    assert f"a board, 8 threads, 2026-02-01 All may really be faster: {reason}." in text


def test_other_objectives_and_limits(write: Write) -> None:
    budgets = {"phone": {"memory": "80%", "latency": "1.4 ms"}, "desk": {"params": "100%"}}
    write(objective="memory", budgets=budgets, num_candidates=12)
    page = render()
    assert "--budget &#39;memory=80%,latency=1.4 ms&#39;" in page
    assert "memory ≤ 80%, latency ≤ 1.4 ms" in page
    assert "peak memory" in page


@pytest.mark.parametrize(
    "path",
    [
        paths.REGISTERED,
        paths.FRONT_REPORT / "front.csv",
        paths.EVALUATE / "tiny/metrics.json",
        paths.EVALUATE / "tiny/confusion.csv",
        paths.EVALUATE / "tiny/mistakes.json",
        paths.EVALUATE / "tiny/mistakes.png",
        paths.TRAIN_REPORT / "curves.csv",
        paths.PREPARED / "manifest.csv",
    ],
)
def test_a_missing_file_is_named(write: Write, path: Path) -> None:
    write(num_candidates=4)
    path.unlink()
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} cannot be read: .*dvc repro"):
        report.Inputs.load()


def test_a_budget_without_a_registered_model_is_named(write: Write) -> None:
    write(num_candidates=4)
    registered = paths.REGISTERED.read_text().replace('"id": "small"', '"id": "other"')
    paths.REGISTERED.write_text(registered)
    with pytest.raises(DataError, match="has no model of 'small'"):
        report.Inputs.load()


def test_what_speaks_against_a_run_stands_on_its_page(write: Write) -> None:
    write(num_candidates=4, budgets=ONE)
    assert "What speaks against this run" not in render()
    registered = read_json(paths.REGISTERED)
    (comparison,) = registered["comparisons"]
    comparison |= {"before_top1": 0.749, "top1": 0.572, "reason": "it is <worse>"}
    registered["held_back"] = ["only: it is <worse>"]
    (version,) = (one for one in registered["versions"] if one["kind"] == "budget")
    version["aliases"] = []
    paths.REGISTERED.write_text(json.dumps(registered))
    training = read_json(paths.TRAIN_REPORT / "metrics.json")
    training["warnings"] = ["nothing is searched"]
    (paths.TRAIN_REPORT / "metrics.json").write_text(json.dumps(training))
    page = render()
    assert "What speaks against this run" in page
    assert "<li>nothing is searched</li>" in page
    assert "<li>only: it is &lt;worse&gt;</li>" in page
    assert "Held back: the models before stay" in page
    assert "74.90%, version 3" in page
    assert "-17.70" in page
    assert version["uri"] in page
    assert "@budget-only" not in page


def test_mistakes_are_the_most_frequent_ones_by_share_of_the_label() -> None:
    table = pd.DataFrame([[6, 4, 0], [0, 9, 1], [0, 0, 10]], list("abc"), list("abc"))
    model = ReportedModel("tiny", {}, table, 1, "models:/x@y", [])
    assert model.most_frequent() == [("a", "b", 0.4), ("b", "c", 0.1)]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://name:secret@host:5000/path", "http://host:5000/path"),
        ("postgresql://name:secret@host/db", "postgresql://host/db"),
        ("sqlite:////elsewhere/mlflow.db", "sqlite:////elsewhere/mlflow.db"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert report._shown_uri(uri) == shown


def test_a_server_becomes_a_link(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@mlflow.example:5000")
    write(num_candidates=4, budgets=ONE)
    page = render()
    assert '<a href="http://mlflow.example:5000">' in page
    assert "secret" not in page
