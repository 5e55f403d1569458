"""`trianflow vo` in metres: a rendered drive by the camera's height and by the car's speed, no scale aligned."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.vo_results import report_of
from trianflow.data.synthetic import SyntheticSequence
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

FRAMES = 24
CAMERA = Camera(320.0, 320.0, 255.5, 95.5, 512, 192)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of a drive through a town at 9 m/s, its truth, and the car's speeds."""
    folder = tmp_path_factory.mktemp("town")
    (folder / "images").mkdir()
    drive = SyntheticSequence.drive("open", CAMERA, seed=1, frames=200, movers=0)
    for i, frame in enumerate(itertools.islice(drive.stream(), FRAMES)):
        cv2.imwrite(str(folder / "images" / f"{i:04d}.png"), frame.image[..., ::-1])
    (folder / "calib.yaml").write_text("fx: 320\nfy: 320\ncx: 255.5\ncy: 95.5\nwidth: 512\nheight: 192\n")
    truth = Trajectory(np.arange(FRAMES) / 10, drive.T_0c[:FRAMES].numpy())
    truth.save(folder / "truth.tum")
    (folder / "speed.csv").write_text(speeds(truth))
    (folder / "prepared").mkdir()
    np.savetxt(folder / "prepared" / "times.txt", truth.times)
    rows = [*np.gradient(truth.distances, truth.times)[:-1], np.nan]
    np.savetxt(folder / "prepared" / "speeds.txt", rows)
    return folder


def speeds(truth: Trajectory, offset: float = 0.0) -> str:
    """A row every frame, and half a second beyond the last."""
    speed = np.gradient(truth.distances, truth.times)
    rows = [*zip(truth.times, speed), (truth.times[-1] + 0.5, speed[-1])]
    return "time,speed\n" + "".join(f"{t + offset:.3f},{v:.4f}\n" for t, v in rows)


@pytest.mark.parametrize(
    ("source", "option", "value"),
    [
        ("camera_height", "--camera-height", "1.65"),
        ("speed", "--speed", "speed.csv"),
        ("speed", "--speed", "prepared/speeds.txt"),
    ],
)
def test_metres(town: Path, tmp_path: Path, trianflow, source: str, option: str, value: str) -> None:
    words = (option, town / value if source == "speed" else value)
    result = trianflow("vo", town / "images", *words, "--gt", town / "truth.tum", "--out", tmp_path / "a")
    assert (result.code, result.errors) == (0, [])
    report, truth = report_of(tmp_path / "a"), Trajectory.load(town / "truth.tum")
    assert report["summary"]["unit"] == "metres"
    assert report["evaluation"]["alignment"] == "se3"
    for name in ("trajectory.tum", "trajectory.kitti"):
        found = Trajectory.load(tmp_path / "a" / name)
        assert found.path_length == pytest.approx(truth.path_length, rel=0.03)
        assert found.distances[4] == pytest.approx(truth.distances[4], rel=0.04)  # before anything was known, too
    assert set(report["frames"][-2]["scale_shares"]) == {"structure", source}
    known = [row["scale_sigma"] is not None for row in report["frames"]]
    assert known == sorted(known)
    assert 1 < known.index(True) < 8
    assert 0 < report["frames"][-1]["scale_sigma"] < 0.1
    assert report["back_end"]["radial"] is not None
    assert report["frames"][-1]["tracks"] > 50


def test_a_speed_file_on_another_clock_is_a_failure_that_says_so(town: Path, tmp_path: Path, trianflow) -> None:
    (tmp_path / "speed.csv").write_text(speeds(Trajectory.load(town / "truth.tum"), offset=1.3e9))
    words = ("vo", town / "images", "--speed", tmp_path / "speed.csv", "--end", 5, "--out", tmp_path / "a")
    result = trianflow(*words)
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if "speed" in line]
    assert "not in metres; speed: known in 0 of 4 steps; the frames run from 0.00 to 0.40 s" in line
    assert "the speeds from 1300000000.00 to 1300000002.80 s: both must be of one clock" in line
    report = report_of(tmp_path / "a")
    assert (report["state"], report["summary"]["unit"]) == ("complete", "arbitrary")
    assert len(Trajectory.load(tmp_path / "a" / "trajectory.tum")) == 5
    both = trianflow(*words, "--camera-height", 1.65, "--end", 12)
    assert both.code == 0
    assert "warning: speed: known in 0 of 11 steps" in both.err
    assert report_of(tmp_path / "a")["summary"]["unit"] == "metres"


def test_no_road_is_a_failure_that_says_so(drive: Path, tmp_path: Path, trianflow) -> None:
    """The upper halves of the pictures, of a camera that looks up."""
    for path in (drive / "images").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[:48])
    (drive / "calib.yaml").write_text("fx: 98.8\nfy: 98.8\ncx: 79.5\ncy: 47.5\nwidth: 160\nheight: 48\n")
    result = trianflow("vo", drive / "images", "--camera-height", 1.65, "--out", tmp_path / "a")
    assert result.code == 1
    assert "not in metres; camera height: a road was found in 0 of" in result.err
    assert report_of(tmp_path / "a")["summary"]["unit"] == "arbitrary"
    assert "in an arbitrary unit" in result.out
