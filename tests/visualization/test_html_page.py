"""The page as a file: complete in itself, and safe with any name or number."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.visualization.html_pages import a_page, a_view, saved, some_thumbnails
from trianflow.errors import TrianflowError
from trianflow.visualization.html_page import Figure, Page, Table, packed, rounded, script_data

NASTY = "</script><script>alert(1)</script> & \"quoted\" 'too' <b>bold</b> <!--@data--> Straße 東京 \u2028"


class Parts(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        self.text.setdefault(self._open[-1], []).append(text)


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_nothing_is_loaded_from_outside() -> None:
    parts = Parts(text := a_page(60).html())
    for tag, attributes in parts.tags:
        for key in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(key) or "data:").startswith("data:"), (tag, attributes)
    assert [a for tag, a in parts.tags if tag == "script"] == [{"type": "application/json", "id": "data"}, {}]
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\(", text)
    assert "<!--@" not in text


@pytest.mark.parametrize("field", ["title", "lead", "error", "state"])
def test_words_are_escaped(field: str) -> None:
    text = Page(**{"title": "x", field: NASTY}).html()
    assert "alert(1)</script>" not in text
    assert "<b>bold" not in text
    parts = Parts(text)
    assert sum(tag == "script" for tag, _ in parts.tags) == 2
    shown = "".join("".join(words) for tag, words in parts.text.items() if tag in ("h1", "p", "span"))
    assert NASTY in shown


def test_words_of_tables_and_figures_are_escaped() -> None:
    page = Page("x", figures=[Figure(NASTY, NASTY, NASTY, NASTY)], notes=[NASTY])
    tables = [Table(NASTY, [[NASTY, NASTY]], [NASTY, NASTY], NASTY)]
    text = Page(**{**vars(page), "settings": tables, "accuracy": tables}).html()
    parts = Parts(text)
    assert sum(tag == "script" for tag, _ in parts.tags) == 2
    assert "<b>bold" not in text
    for tag in ("dt", "dd", "li", "summary", "th", "td"):
        assert NASTY in parts.text[tag]


def test_names_in_the_data_come_back_as_they_were() -> None:
    view = a_view(3)
    view.rows[1]["name"] = view.rows[1]["note"] = NASTY
    view.rows[2]["status"] = NASTY
    text = a_page(3, view=view).html()
    assert sum(tag == "script" for tag, _ in Parts(text).tags) == 2
    frames = data_of(text)["frames"]
    assert frames["name"][1] == frames["note"]["1"] == NASTY
    assert data_of(text)["statuses"][frames["status"][2]]["word"] == NASTY


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    path = saved(Page("caf\udce9.mp4", data={"name": "caf\udce9"}), tmp_path)
    assert "caf?.mp4" in path.read_text("utf-8")


def test_numbers_that_json_has_no_word_for() -> None:
    value = {"a": [float("nan"), 1.5, float("inf")], "b": np.array([[-np.inf, 2.0]]), "c": None, "d": (True, "x")}
    assert json.loads(script_data(value)) == {"a": [None, 1.5, None], "b": [[None, 2.0]], "c": None, "d": [True, "x"]}
    assert rounded([1.23456, None, float("nan"), 0.0], 3) == [1.23, None, None, 0.0]


def test_packed_is_little_endian_float32() -> None:
    array = np.array([[1.5, -2.0], [3.0, 1e-3]])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed(array)), "<f4"), array.astype("<f4").ravel())
    assert base64.b64decode(packed(np.array([[1, 255]], np.uint8)[:, ::-1])) == b"\xff\x01"


def test_what_is_not_there_has_no_heading() -> None:
    headings = Parts(Page("x").html()).text["h2"]
    assert "Notes" not in headings
    assert "Settings" not in headings
    assert "Compared with the truth" not in headings
    assert "–" in "".join(Parts(Page("x", figures=[Figure("Path", "")]).html()).text["dd"])


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="cannot write the report: No such file"):
        Page("x").save(tmp_path / "gone" / "report.html")


def test_five_thousand_frames_are_not_too_much(tmp_path: Path) -> None:
    page = a_page(5000, view=a_view(5000, points=60_000), thumbnails=some_thumbnails(100, 1240, 376))
    assert saved(page, tmp_path).stat().st_size < 15e6
