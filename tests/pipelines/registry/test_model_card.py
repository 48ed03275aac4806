from pipelines.registry import model_card
from pipelines.registry.lookup import Entry
from pipelines.registry.records import LoggedModel

SPEC = {"network": "resnet8", "in_channels": 3, "image_size": 32}
ODD = ["<script>alert(1)</script>", "a|b", "*bold*", "under_score", "two\nlines", "`code`", "花"]


def entry(version: int, top1: float) -> Entry:
    tags = {"kind": "budget", "id": "tiny"}
    return Entry("joslim-x", version, LoggedModel("m", "", {"macs": 5.0, "val_top1": top1}, tags))


def test_names_of_classes_are_shown_as_they_are() -> None:
    text = model_card.describe(SPEC, "my_data", ODD, "a toy", [entry(3, 0.5)])
    assert "**my\\_data**" in text
    assert (
        "gives 7 logits: \\<script\\>alert(1)\\</script\\>, a\\|b, \\*bold\\*, under\\_score, "
        "two\\\\nlines, \\`code\\`, 花. Latencies"
    ) in text


def test_many_classes_leave_room_for_the_table() -> None:
    names = [f"a class with quite a long name {i}" for i in range(1000)]
    text = model_card.describe(SPEC, "x", names, "a toy", [entry(3, 0.5)])
    assert "long name 29 and 970 more. Latencies" in text
    assert text.endswith("50.00%&emsp;|&emsp;|")


def test_the_table_is_replaced_and_the_rest_stays() -> None:
    text = model_card.describe(SPEC, "x", ["a"], "a toy", [entry(3, 0.5)])
    other = model_card.with_table(text, [entry(8, 0.6)])
    assert other == model_card.describe(SPEC, "x", ["a"], "a toy", [entry(8, 0.6)])
    assert "|3&emsp;|" not in other
