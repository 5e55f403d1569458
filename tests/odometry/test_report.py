"""The report: rows, counts, remarks, units, strict JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.odometry.report import RunReport, frame_row, run_facts
from trianflow.odometry.step import Step, StepStatus


def step(index: int, status: StepStatus = StepStatus.OK, x: float = 0.0, **values: object) -> Step:
    T_wc = np.eye(4)
    T_wc[0, 3] = x
    return replace(Step(index, index / 10, T_wc, status), **values)  # type: ignore[arg-type]


def add(report: RunReport, *args: object, **values: object) -> object:
    taken = step(*args, **values)  # type: ignore[arg-type]
    return report.add(Frame(taken.index, taken.time, None, f"{taken.index:04d}.png"), taken)


def test_counts_and_length() -> None:
    report = RunReport(seconds=2.0)
    add(report, 0, StepStatus.FIRST)
    add(report, 1, x=3.0, key_frame=0, milliseconds=10.0)
    add(report, 2, x=1.0, key_frame=0, milliseconds=30.0)
    add(report, 3, StepStatus.LOST, x=1.0, key_frame=2)
    add(report, 4, StepStatus.BRIDGED, x=1.5)
    summary = report.summary()
    assert summary["frames"] == 5
    assert summary["statuses"] == {"ok": 2, "first": 1, "lost": 1, "bridged": 1}
    assert summary["guessed"] == report.guessed == 2
    assert summary["key_frames"] == 2
    assert summary["path_length"] == pytest.approx(5.5)
    assert summary["fps"] == 2.5


def test_row() -> None:
    taken = step(7, matches=5, inlier_ratio=1 / 3, parallax=float("nan"), scale=0.5, scale_source="structure")
    taken = replace(taken, key_frame=6, milliseconds=12.3456, note="n", shares={"structure": 2 / 3, "speed": 1 / 3})
    taken = replace(taken, scale_sigma=0.01234, tracks=300, window="no parallax")
    row = frame_row(Frame(7, 0.7, None, "a.png"), taken)
    assert row == {
        "index": 7, "time": 0.7, "name": "a.png", "status": "ok", "matches": 5, "inlier_ratio": 0.3333,
        "parallax": None, "scale": 0.5, "scale_source": "structure",
        "scale_shares": {"structure": 0.6667, "speed": 0.3333}, "scale_sigma": 0.0123, "tracks": 300,
        "window": "no parallax", "key_frame": 6, "ms": 12.35, "note": "n",
    }  # fmt: skip
    first = frame_row(Frame(0, 0, None), step(0, StepStatus.FIRST))
    assert (first["key_frame"], first["scale_sigma"], first["tracks"]) == (None, None, 0)


def test_remarks_are_told_once_a_kind() -> None:
    report = RunReport()
    assert add(report, 0) is None
    first = add(report, 1, StepStatus.BRIDGED, note="truncated PNG (ends after 312 bytes)")
    assert (first.text, first.first, first.count) == (
        "truncated PNG (ends after 312 bytes)",
        "1 (0001.png)",
        1,
    )  # type: ignore[attr-defined]
    assert add(report, 2, StepStatus.BRIDGED, note="truncated PNG (ends after 98 bytes)") is None
    assert add(report, 3, StepStatus.LOST, note="no consensus: constant velocity") is not None
    assert [remark.count for remark in report.remarks.values()] == [2, 1]
    assert report.to_dict()["remarks"][0]["status"] == "bridged"


@pytest.mark.parametrize(
    ("sources", "unit"),
    [
        (["depth", "pnp", "structure"], "metres"),
        (["unit", "depth"], "arbitrary"),
        (["", "structure"], "arbitrary"),
        (["pnp", "structure"], "arbitrary"),
        (["", "network", "velocity"], "network"),
        (["unit", "network"], "arbitrary"),
    ],
)
def test_unit(sources: list[str], unit: str) -> None:
    report = RunReport()
    for i, source in enumerate(sources):
        add(report, i, scale_source=source)
    assert report.unit == unit


@pytest.mark.parametrize(("source", "unit"), [("speed", "metres"), ("depth", "metres"), ("network", "network")])
def test_unit_by_what_is_known_of_the_scale(source: str, unit: str) -> None:
    """One measurement that has left the scale unknown makes no metres."""
    report, shares = RunReport(), {"structure": 0.5, source: 0.5}
    add(report, 0, scale_source="unit", shares=shares)
    assert report.unit == "arbitrary"
    add(report, 1, scale_source="structure", shares=shares, scale_sigma=0.05)
    assert report.unit == unit


def test_saved_report_is_strict_json_one_row_a_line(tmp_path: Path) -> None:
    camera = Camera(100.0, 100.0, 80.0, 48.0, 160, 96, (0.1, 0.0, 0.0, 0.0))
    report = RunReport(run_facts(camera, OdometryConfig(seed=9), calibration="here", preset="accurate"))
    path = tmp_path / "report.json"
    report.save(path)
    assert json.loads(path.read_text())["frames"] == []
    add(report, 0, StepStatus.FIRST, parallax=float("inf"))
    add(report, 1, scale=float("nan"), note='"quoted"\n')
    report.state = "complete"
    report.save(path)
    read = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert read == json.loads(json.dumps(report.to_dict()))  # tuples become lists
    assert read["calibration"]["distortion"] == [0.1, 0.0, 0.0, 0.0]
    assert read["back_end"] == {"radial": None, "loops": None}
    assert (read["seed"], read["preset"], read["calibration"]["source"]) == (9, "accurate", "here")
    assert {"trianflow", "torch", "opencv", "numpy", "python"} <= set(read["versions"])
    assert sum(line.startswith('  {"index"') for line in path.read_text().splitlines()) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="cannot write the report"):
        RunReport().save(tmp_path / "none" / "report.json")
