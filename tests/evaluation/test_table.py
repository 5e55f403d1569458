"""Tables of results."""

from __future__ import annotations

import csv
import io

import pytest

from trianflow.evaluation.table import Column, Row, Table, median_row

COLUMNS = (Column("abs_rel", "AbsRel"), Column("a_1", "δ < 1.25 %", 1))
OURS = Row("ours_1", {"abs_rel": 0.11349, "a_1": None})
PAPER = Row("TrianFlow", {"abs_rel": 0.11, "a_1": 87.1}, source="CVPR 2020, table 1")
OTHER = Row("PoseNet", {"abs_rel": 0.2}, source="CVPR 2020, table 1")


def test_text_has_dashes_rules_and_sources() -> None:
    assert Table("method", COLUMNS, (OURS, PAPER, OTHER)).text().splitlines() == [
        "method     AbsRel  δ < 1.25 %",
        "-----------------------------",
        "ours_1      0.113           -",
        "-----------------------------",
        "TrianFlow    0.11        87.1",
        "PoseNet      0.20           -",
        "",
        "TrianFlow, PoseNet: CVPR 2020, table 1",
    ]
    assert len(Table("method", COLUMNS, (OURS,)).text().splitlines()) == 3


def test_csv_keeps_all_digits() -> None:
    seeds = median_row("seeds", [{"abs_rel": 0.1, "a_1": 1.0}, {"abs_rel": 0.3, "a_1": None}])
    rows = list(csv.DictReader(io.StringIO(Table("method", COLUMNS, (OURS, seeds, PAPER)).csv())))
    assert [row["abs_rel"] for row in rows] == ["0.11349", "0.2", "0.11"]
    assert [row["abs_rel_spread"] for row in rows] == ["", "0.09999999999999999", ""]
    assert [row["a_1"] for row in rows] == ["", "", "87.1"]
    assert rows[2]["source"] == "CVPR 2020, table 1"


def test_csv_has_counts_without_a_point() -> None:
    columns = (Column("images", "images", 0), Column("epe", "EPE", 2))
    rows = (Row("ours", {"images": 40.0, "epe": 2.0}), Row("median", {"images": 40.5, "epe": 2.0}))
    assert Table("method", columns, rows).csv().splitlines()[1:] == ["ours,40,2.0,", "median,40.5,2.0,"]


def test_latex_escapes() -> None:
    lines = Table("method", COLUMNS, (OURS, PAPER)).latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r"method & AbsRel & $\delta$ $<$ 1.25 \% \\"
    assert lines[4] == r"ours\_1 & 0.113 & - \\"
    assert lines[5] == r"\midrule"
    assert lines[-1] == r"\end{tabular}"


def test_the_median_of_runs_and_its_spread() -> None:
    row = median_row("three seeds", [{"x": 3.0}, {"x": 1.0}, {"x": 1.5}])
    assert (row.values["x"], row.spread["x"]) == (1.5, 1.0)
    assert Table("", (Column("x", "x", 1),), (row,)).text().endswith("1.5 ± 1.0")
    assert median_row("one", [{"x": 3.0}]).spread == {}
    with pytest.raises(ValueError, match="no run"):
        median_row("none", [])


def test_plain_values() -> None:
    entries = Table("method", COLUMNS, (OURS, PAPER)).to_dict()
    assert entries[0] == {"name": "ours_1", "abs_rel": 0.11349, "a_1": None}
    assert entries[1]["source"] == "CVPR 2020, table 1"
    seeds = median_row("seeds", [{"abs_rel": 0.1, "other": 1.0}, {"abs_rel": 0.3, "other": 2.0}])
    (entry,) = Table("method", COLUMNS, (seeds,)).to_dict()
    assert entry["spread"] == {"abs_rel": pytest.approx(0.1)}, "of what is in the table"
