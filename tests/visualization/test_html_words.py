"""What the page says of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from trianflow.config import OdometryConfig
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.geometry.camera import Camera
from trianflow.odometry.report import RunReport, run_facts
from trianflow.trajectory import Trajectory
from trianflow.visualization import html_words as words

DOF = "7\u2011DoF"  # with a hyphen at which no line breaks


def drive(number: int) -> Trajectory:
    """A bend, a metre a frame."""
    angle = np.linspace(0, 1, number)
    T_wc = np.tile(np.eye(4), (number, 1, 1))
    T_wc[:, 0, 3], T_wc[:, 2, 3] = number * (1 - np.cos(angle)), number * np.sin(angle)
    return Trajectory(np.arange(float(number)), T_wc)


def a_report(number: int = 20, **changed: Any) -> dict[str, Any]:
    """Of a run whose error is noise of a fifth of a metre."""
    report = RunReport(run_facts(Camera(100, 100, 50, 40, 101, 81), OdometryConfig(), preset="fast"))
    truth = drive(number)
    T_wc = truth.T_wc.copy()
    T_wc[:, :3, 3] += np.random.default_rng(0).normal(0, 0.2, (number, 3))
    report.evaluation = evaluate_odometry(truth, Trajectory(truth.times, T_wc), "sim3").to_dict()
    report.path_length = 1234.5
    return report.to_dict(frames=False) | changed


def test_figures_against_the_truth_name_their_alignment() -> None:
    report = a_report()
    found = {figure.label: figure for figure in words.figures(report)}
    assert found["ATE, rmse"].value == words.short(report["evaluation"]["ate"]["rmse"])
    assert found["RPE"].value == words.short(report["evaluation"]["rpe"]["translation"]["rmse"])
    assert f"Sim(3), {DOF}" in found["ATE, rmse"].detail
    assert f"Sim(3), {DOF}" in found["RPE"].detail
    assert (found["Path"].value, found["Path"].unit) == ("1,234", "units")
    assert all("Sim(3)" in table.detail for table in words.accuracy(report["evaluation"]))
    long = {figure.label: figure for figure in words.figures(a_report(150))}
    assert "RPE" not in long
    assert "KITTI" in long["t_err"].detail
    assert f"Sim(3), {DOF}" in long["t_err"].detail
    segments = words.accuracy(a_report(150)["evaluation"])[1]
    assert [row[0] for row in segments.rows] == ["100 m"]


def test_without_truth_nothing_is_compared() -> None:
    report = a_report(evaluation=None)
    assert words.accuracy(None) == []
    assert [figure.label for figure in words.figures(report)] == ["Frames", "Path", "Speed", "Key frames"]


def test_guesses_and_loops_are_told() -> None:
    report = a_report(back_end={"radial": None, "loops": {"found": 3, "kept": [[0, 9]]}})
    report["summary"] |= {"guessed": 2, "frames": 20, "statuses": {"ok": 18, "rotation_only": 1, "lost": 1}}
    found = {figure.label: figure for figure in words.figures(report)}
    assert found["Frames"].tone == "bad"
    assert found["Frames"].detail == "2 guessed: 18 ok, 1 rotation only, 1 lost"
    assert (found["Loops"].value, found["Loops"].detail) == ("1", "kept of 3 that were found")


def test_settings_are_all_there() -> None:
    tables = {table.title: dict(table.rows) for table in words.settings(a_report())}
    assert list(tables) == ["Calibration", "Configuration", "Threads", "Versions"]
    config = OdometryConfig()
    assert tables["Configuration"]["preset"] == "fast"
    assert tables["Configuration"]["two_view.threshold"] == f"{config.two_view.threshold:g}"
    assert tables["Configuration"]["loops"] == "no"
    assert tables["Configuration"]["camera_height"] == "–"
    assert tables["Calibration"]["fx"] == "100"


def test_lines_of_words() -> None:
    remark = {"text": "no image", "first": "3 (a.png)", "count": 2, "status": "rotation_only"}
    lines = words.remarks(a_report(notes=["short"], remarks=[remark]))
    assert lines == ["short", "Frame 3 (a.png), the first of 2: rotation only: no image"]
    line = words.lead(a_report())
    assert line == "0_frames of 101_×_81_pixels · tracked in 0.0_s · preset fast".replace("_", "\u00a0")
    assert words.title({}) == ""
    assert words.title({"input": {"kind": "video", "name": "a.mp4", "path": "/b/a.mp4"}}) == "a.mp4"
    assert words.title({"input": {"kind": "folder", "name": "images", "path": "/x/07/images"}}) == "07/images"


def test_short_numbers() -> None:
    given = [0.0, 0.01234, 1.0, 100.0, 999.7, 12345.6, None, float("nan")]
    assert [words.short(value) for value in given] == ["0", "0.0123", "1.00", "100", "1,000", "12,346", "", ""]
