"""`report.html` of whole runs: what it shows is what the other files say."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.odometry import corridor
from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.data.ply import write_ply
from trianflow.flow.dis import DISFlow
from trianflow.geometry.camera import Camera
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.html_report import HtmlReport
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import OdometryRun, run_odometry
from trianflow.trajectory import Trajectory

CAMERA = Camera(150.0, 150.0, 79.5, 47.5, 160, 96)
FAST = OdometryConfig.preset("fast")


def wall(width: int, height: int = 96) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (128 + smooth / smooth.std() * 40).clip(0, 255).astype(np.uint8)


def slide(number: int, depth: float | None = None) -> Iterator[Frame]:
    """A camera that slides along a wall, 5 pixels a frame."""
    picture = wall(160 + 5 * number)
    for i in range(number):
        measured = None if depth is None else np.full((96, 160), depth, np.float32)
        yield Frame(i, i / 10, picture[:, 5 * i : 5 * i + 160].copy(), f"{i}.png", measured)


def a_truth(number: int) -> Trajectory:
    T_wc = np.tile(np.eye(4), (number, 1, 1))
    T_wc[:, 0, 3] = np.arange(number) + 0.05 * np.sin(np.arange(number))
    T_wc[:, 2, 3] = 100 + 0.1 * np.cos(np.arange(number))
    return Trajectory(np.arange(number) / 10, T_wc)


def data_of(out: Path) -> dict[str, Any]:
    text = (out / "report.html").read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def positions(text: str, columns: int = 12) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, columns)
    return array[:, 3::4] if columns == 12 else array


def test_a_run_without_truth(tmp_path: Path) -> None:
    run = run_odometry(slide(6), CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    assert run.files[-1] == "report.html"
    data = data_of(tmp_path)
    np.testing.assert_allclose(positions(data["poses"]), run.trajectory.positions, atol=1e-5)
    assert data["unit"] == "units"
    assert data["truth"] == ""
    assert [curve["title"] for curve in data["curves"]] == ["Inliers", "Parallax", "Scale", "Time per frame"]
    rows = json.loads((tmp_path / "report.json").read_text())["frames"]
    inliers, parallax, scale, time = (curve["values"] for curve in data["curves"])
    assert inliers[0] is parallax[0] is scale[0] is None
    assert inliers[1:] == pytest.approx([100 * row["inlier_ratio"] for row in rows[1:]])
    assert parallax[1:] == pytest.approx([row["parallax"] for row in rows[1:]])
    assert time == pytest.approx([row["ms"] for row in rows], rel=1e-4)
    keys = [row["key_frame"] for row in rows[1:]]
    steps = np.linalg.norm(run.trajectory.positions[1:] - run.trajectory.positions[keys], axis=1)
    np.testing.assert_allclose(scale[1:], steps, rtol=1e-4)
    pictures = data["pictures"]
    assert pictures["rows"] == [0, 1, 2, 3, 4, 5]
    assert [layer["key"] for layer in pictures["layers"]] == ["image", "flow", "depth", "occlusion", "inliers"]


def test_the_estimate_lies_on_the_truth_as_the_figures_say(tmp_path: Path) -> None:
    truth = a_truth(8)
    run = run_odometry(slide(8), CAMERA, FAST, tmp_path, truth=truth, observers=[HtmlReport(truth)])
    data = data_of(tmp_path)
    shown, true = positions(data["poses"]), positions(data["truth"], 3)
    np.testing.assert_allclose(true, truth.positions - truth.positions[0], atol=1e-4)
    errors = np.linalg.norm(shown - true, axis=1)
    assert run.report.evaluation is not None
    assert np.sqrt((errors**2).mean()) == pytest.approx(run.report.evaluation["ate"]["rmse"], rel=1e-3)
    np.testing.assert_allclose(data["errors"], errors, atol=1e-4)
    assert (data["unit"], data["alignment"]) == ("m", "Sim(3), 7-DoF")
    assert data["curves"][0]["title"] == "Error"
    assert "Sim(3), 7-DoF" in data["curves"][0]["detail"]


def test_a_truth_that_does_not_fit_is_not_drawn(tmp_path: Path) -> None:
    late = Trajectory(100.5 + np.arange(3.0), a_truth(3).T_wc)
    run = run_odometry(slide(5), CAMERA, FAST, tmp_path, truth=late, observers=[HtmlReport(late)])
    assert "report.html" in run.files
    assert data_of(tmp_path)["truth"] == ""
    assert "cannot compare with the truth" in (tmp_path / "report.html").read_text("utf-8")


def test_without_matplotlib_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = run_odometry(slide(3), CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    assert run.problems == ["plots need matplotlib: pip install matplotlib"]
    assert {"trajectory.tum", "report.html"} <= set(run.files)
    assert "plots need matplotlib" in (tmp_path / "report.html").read_text("utf-8")


class Cloud:
    """An observer that writes a point one unit ahead of every camera."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def observe(self, *_: object) -> None:
        pass

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        points = run.trajectory.positions + run.trajectory.T_wc[:, :3, 2]
        write_ply(self.path, points, np.full((len(points), 3), 7, np.uint8))
        return [run.named(self.path)]

    def abandon(self) -> None:
        pass


def test_the_cloud_moves_with_the_trajectory(tmp_path: Path) -> None:
    truth, path = a_truth(8), tmp_path / "cloud.ply"
    observers = [Cloud(path), HtmlReport(truth, path)]
    run = run_odometry(slide(8), CAMERA, FAST, tmp_path, truth=truth, observers=observers)
    data = data_of(tmp_path)
    assert run.report.evaluation is not None
    poses = np.frombuffer(base64.b64decode(data["poses"]), "<f4").reshape(-1, 3, 4)
    expected = poses[:, :, 3] + run.report.evaluation["scale"] * poses[:, :, 2]
    np.testing.assert_allclose(positions(data["cloud"]["points"], 3), expected, rtol=1e-3, atol=1e-3)


def test_the_cloud_of_an_earlier_run_is_not_shown(tmp_path: Path) -> None:
    write_ply(tmp_path / "cloud.ply", np.zeros((5, 3)), np.zeros((5, 3), np.uint8))
    run_odometry(slide(3), CAMERA, FAST, tmp_path, observers=[HtmlReport(cloud=tmp_path / "cloud.ply")])
    assert data_of(tmp_path)["cloud"]["points"] == ""


def test_another_cloud_of_the_same_name_is_not_shown(tmp_path: Path) -> None:
    for name in ("mine", "other", "run"):
        (tmp_path / name).mkdir()
    mine, other = tmp_path / "mine" / "cloud.ply", tmp_path / "other" / "cloud.ply"
    write_ply(mine, np.zeros((5, 3)), np.zeros((5, 3), np.uint8))
    run_odometry(slide(3), CAMERA, FAST, tmp_path / "run", observers=[Cloud(other), HtmlReport(cloud=mine)])
    assert data_of(tmp_path / "run")["cloud"]["points"] == ""


def test_measured_depth_is_in_metres(tmp_path: Path) -> None:
    run_odometry(slide(5, depth=3.0), CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    layer = next(x for x in data_of(tmp_path)["pictures"]["layers"] if x["key"] == "depth")
    assert layer["caption"][0] == layer["caption"][-1] == "3 to 3 m"


def depth_captions(out: Path) -> list[str]:
    return next(x for x in data_of(out)["pictures"]["layers"] if x["key"] == "depth")["caption"]


def test_a_frame_without_measured_depth_is_in_metres_like_the_others(tmp_path: Path) -> None:
    frames = list(slide(6, depth=3.0))
    frames[3] = replace(frames[3], depth=None)
    run = run_odometry(frames, CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    assert run.report.unit == "metres"
    captions = depth_captions(tmp_path)
    assert {caption for caption in captions if caption} == {"3 to 3 m"}
    assert sum(not caption for caption in captions) <= 1


class Constant:
    """A network that takes everything for a wall two units away."""

    def depth(self, image: np.ndarray) -> np.ndarray:
        return np.full(image.shape[:2], 2.0, np.float32)


def test_predicted_depth_is_in_units_of_the_network_also_where_depth_was_measured(tmp_path: Path) -> None:
    """The first frame decides."""
    frames = list(slide(5, depth=3.0))
    frames[0] = replace(frames[0], depth=None)
    config = FAST.model_copy(update={"scale": "depth"})
    estimators = Estimators(DISFlow("fast"), Constant())
    run_odometry(frames, CAMERA, config, tmp_path, estimators=estimators, observers=[HtmlReport()])
    assert set(depth_captions(tmp_path)) == {"2 to 2 units of the network"}


def test_a_camera_without_a_size_gets_that_of_the_images(tmp_path: Path) -> None:
    unsized = replace(CAMERA, width=0, height=0)
    pages = []
    for name, camera in (("known", CAMERA), ("unknown", unsized)):
        run_odometry(slide(3), camera, FAST, tmp_path / name, observers=[HtmlReport()])
        pages.append(data_of(tmp_path / name))
    assert pages[0]["viewAngle"] == pages[1]["viewAngle"] == pytest.approx([80 / 150, 48 / 150])
    assert "0\u00a0×" not in (tmp_path / "unknown" / "report.html").read_text("utf-8")


def test_one_frame(tmp_path: Path) -> None:
    run = run_odometry(slide(1), CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    assert run.problems == []
    data = data_of(tmp_path)
    assert data["pictures"]["rows"] == [0]
    assert [layer["key"] for layer in data["pictures"]["layers"]] == ["image"]
    assert [curve["values"] for curve in data["curves"]][:3] == [[None]] * 3


def test_frames_that_tell_nothing(tmp_path: Path) -> None:
    """The same image again, and a frame without one."""
    given = list(slide(5))
    given[3] = Frame(3, 0.3, given[2].image, "again.png")
    given[4] = Frame(4, 0.4, None, "<gone>.png", None, "no such file")
    run = run_odometry(given, CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    assert run.problems == []
    data = data_of(tmp_path)
    assert {"duplicate", "bridged"} <= {status["word"] for status in data["statuses"]}
    assert data["pictures"]["rows"] == [0, 1, 2]
    assert data["frames"]["name"][4] == "<gone>.png"
    assert "Frame 4 (&lt;gone&gt;.png)" in (tmp_path / "report.html").read_text("utf-8")


def test_a_run_that_is_lost(tmp_path: Path) -> None:
    world = corridor.Blind(corridor.drive(9, turn=0.0), {4, 5, 6, 7, 8})
    run = run_odometry(
        world.frames(),
        corridor.CAMERA,
        corridor.CONFIG,
        tmp_path,
        estimators=Estimators(world),
        observers=[HtmlReport()],
    )
    assert run.report.guessed >= 4
    data = data_of(tmp_path)
    assert data["statuses"][0]["word"] == "lost"
    assert data["pictures"]["rows"] == list(range(9))
    depth = next(layer for layer in data["pictures"]["layers"] if layer["key"] == "depth")
    assert depth["jpeg"][3] is not None
    assert depth["jpeg"][8] is None  # nothing is known any more


def test_an_interrupted_run(tmp_path: Path) -> None:
    def broken() -> Iterator[Frame]:
        yield from slide(3)
        raise RuntimeError("lightning <struck>")

    with pytest.raises(RuntimeError):
        run_odometry(broken(), CAMERA, FAST, tmp_path, observers=[HtmlReport()])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "lightning &lt;struck&gt;" in text
    assert '<span class="state">failed</span>' in text


def test_memory_does_not_grow_with_the_run() -> None:
    """After any number of frames at most 48 are kept, as files of some kilobytes."""
    report, odometry = HtmlReport(), VisualOdometry(CAMERA, FAST)
    for frame in slide(4):
        step = odometry.track(frame)
    for _ in range(400):
        report.observe(odometry, frame, step)
    kept = report._thumbnails.pictures
    assert 24 <= len(kept) <= 48
    assert sum(len(picture.jpeg) for pictures in kept for picture in pictures.values()) < 48 * 5 * 30_000
