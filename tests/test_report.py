"""The page of results: its numbers are those of the records, and nothing is lost or made up."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.record import write_record
from experiments.report import Records, page, sections
from experiments.report.records import Record, written
from experiments.report.tables import numbers_of, whole

ROOT = Path(__file__).parent.parent
COMMITTED = [ROOT / "experiments" / "results", ROOT / "benchmarks" / "results"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """What a page holds: its numbers with their sources, sections, pictures, and tags left open."""

    def __init__(self, content: str):
        super().__init__()
        self.data, self.ids, self.images, self.open, self.links = [], [], [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "data":
            self.data.append((attrs["data-source"], attrs["value"]))
        if tag == "img":
            self.images.append(attrs)
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def record(numbers, folder, name):
    write_record(folder / f"{name}.json", numbers, seed=0)


def stated(source: str):
    """Return what the file of the record holds at a source, read without the package."""
    name, path = source.split(":", 1)
    (file,) = [folder / f"{name}.json" for folder in COMMITTED if (folder / f"{name}.json").exists()]
    entry = json.loads(file.read_text())["numbers"]
    for step in (each.replace("∕", "/") for each in path.split("/")):
        if not isinstance(entry, list):
            entry = entry[step]
        elif step.isdigit():
            entry = entry[int(step) - 1]
        else:
            wanted = dict(pair.split("=") for pair in step.split("&"))
            entry = next(each for each in entry if all(str(each[key]) == value for key, value in wanted.items()))
    return entry["value"] if isinstance(entry, dict) else entry


def test_every_number_of_the_page_is_that_of_the_committed_record():
    shown = Page(page(Records.read(COMMITTED))).data
    measured = [(source, value) for source, value in shown if not source.startswith("paper:")]
    assert len(measured) > 300
    assert [(s, v) for s, v in measured if str(stated(s)) != v] == []


def test_every_record_is_on_the_page_whole():
    records = Records.read(COMMITTED)
    shown = page(records)
    for name in set(records.records) - {"paper"}:
        assert f"All numbers of <code>{name}</code>" in shown


def test_references_of_sections_are_found_wherever_the_record_is():
    records = Records.read(COMMITTED)
    texts = [
        text for part in sections() for text in (*part.about, *part.differs, *(c for row in part.rows for c in row))
    ]
    references = [reference for text in texts for reference in numbers_of(text)]
    # Mediamill's files need not be there; records without `quick` are older than the shared command line.
    checked = [r for r in references if "Mediamill" not in r and _is_current(records, r)]
    assert [reference for reference in checked if records.number(reference) is None] == []


def _is_current(records: Records, reference: str) -> bool:
    name, path, *_ = reference.split(":")
    held = records.records.get(name)
    if held is None or "quick" not in held.numbers or path.split("/", maxsplit=1)[0] not in held.numbers:
        return False
    # A measurement that stopped has the words why in place of its numbers.
    return not isinstance(held.look_up(path.rpartition("/")[0]), str)


def test_the_paper_s_numbers_are_those_that_scripts_compare_with():
    records = Records.read(COMMITTED)
    for data in ("metabric", "support"):
        runs = records.records["cox_accuracy"].numbers["runs"]
        paper = records.number(f"paper:table1/{data}/vif:.3f")
        assert paper is not None
        assert {run["paper"] for run in runs if run["data"] == data} == {paper.value}


def test_the_page_needs_nothing_else_and_is_well_formed():
    content = page(Records.read(COMMITTED))
    parsed = Page(content)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert [link for link in parsed.links if not link.startswith(("#", "data:"))] == []
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert not re.search(r"@import|url\(|fetch\(", content)


def test_pictures_are_inside_with_words_that_stand_for_them(tmp_path):
    (tmp_path / "karate_figure1.png").write_bytes(PIXEL)
    (image,) = Page(page(Records.read([tmp_path]))).images
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PIXEL
    assert "karate club" in image["alt"]


def test_quick_records_are_told_from_full_ones(tmp_path):
    record({"r": 0.5}, tmp_path, "table2")
    record({"r": 0.25}, tmp_path, "table2-quick")
    full, quick = page(Records.read([tmp_path])), page(Records.read([tmp_path], quick=True))
    assert ("table2:r", "0.5") in Page(full).data
    assert "A quick run" not in full
    assert ("table2:r", "0.25") in Page(quick).data
    assert "A quick run" in quick
    assert "(quick)</title>" in quick


def test_what_is_missing_is_said_and_its_sentences_left_out(tmp_path):
    shown = page(Records.read([tmp_path]))
    assert "<code>python -m experiments.reproduce table2</code>" in shown
    assert "mediamill_training.arff" in shown
    assert "Theorem 3.2" in shown
    assert "The mean difference falls" not in shown


def test_a_record_that_no_section_knows_comes_last(tmp_path):
    record({"seconds": 2.5}, tmp_path, "brand_new")
    shown = page(Records.read([tmp_path]))
    assert "More measurements" in shown
    assert ("brand_new:seconds", "2.5") in Page(shown).data


def test_words_of_a_record_cannot_become_markup():
    shown = whole("a<b", Record({"<script>": "<script>alert(1)</script>", "list": ["<i>", "x"]}, {}))
    assert "<script" not in shown
    assert "<i>" not in shown


def test_nested_numbers_become_tables():
    shown = Page(
        whole("n", Record({"a": 1, "runs": [{"x": 1.5}, {"y": 2}], "deep": {"b": {"c": {"d": 0.25}}}}, {}))
    ).data
    assert shown == [("n:a", "1"), ("n:runs/1/x", "1.5"), ("n:runs/2/y", "2"), ("n:deep/b/c/d", "0.25")]


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match="is no record"):
        Records.read([tmp_path])
    with pytest.raises(ValueError, match="There is no folder"):
        Records.read([tmp_path / "none"])


def test_numbers_are_written_for_reading():
    assert written(0.0119, "time") == "12 ms"
    assert written(0.7, "time") == "700 ms"
    assert written(6.54, "time") == "6.54 s"
    assert written(13500.0, "time") == "225 min"
    assert written(-0.25, ".1f") == "−0.2"
    assert written([1, 2]) == "1, 2"
    assert written(None) == "–"
