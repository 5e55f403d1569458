"""`trianflow vo --loops`: a way round a room and on over its beginning, from images to the corrected trajectory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.cli.vo_results import FILES, report_of
from trianflow.data.synthetic import SyntheticSequence, make_scene
from trianflow.data.synthetic.scene import upright_pose
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

ROUND, FRAMES, FPS = 100, 125, 10.0  # frames of a round, and of all
CAMERA = Camera.from_fov(320, 192, 80.0)
LOOPED = FILES | {"trajectory_loops.tum", "trajectory_loops.kitti"}


@pytest.fixture(scope="module")
def way_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, `calib.yaml`, `truth.tum`, and as `prepare` writes them `times.txt` and `speeds.txt`."""
    folder = tmp_path_factory.mktemp("round")
    (folder / "images").mkdir()
    scene = make_scene("room", 2)
    s = torch.arange(FRAMES) / ROUND * scene.route.length
    position, heading = scene.route.at(s % scene.route.length)
    T_wc = upright_pose(position[:, 0], torch.full((FRAMES,), -scene.eye_height), position[:, 1], heading)
    sequence = SyntheticSequence(scene, T_wc, FPS, CAMERA)
    for frame in sequence.stream():
        assert frame.image is not None
        cv2.imwrite(str(folder / "images" / f"{frame.index:04d}.png"), frame.image[..., ::-1])
    (folder / "calib.yaml").write_text(
        f"fx: {CAMERA.fx}\nfy: {CAMERA.fy}\ncx: {CAMERA.cx}\ncy: {CAMERA.cy}\nwidth: 320\nheight: 192\n"
    )
    truth = Trajectory(np.arange(FRAMES) / FPS, sequence.T_0c.numpy())
    truth.save(folder / "truth.tum")
    np.savetxt(folder / "times.txt", truth.times)
    np.savetxt(folder / "speeds.txt", np.gradient(truth.distances, truth.times))
    return folder


@pytest.mark.slow
def test_a_way_round_is_closed(way_round: Path, tmp_path: Path, trianflow) -> None:
    result = trianflow("vo", way_round / "images", "--loops", "--out", tmp_path)
    assert (result.code, result.errors) == (0, [])
    assert {path.name for path in tmp_path.iterdir()} == LOOPED
    loops = report_of(tmp_path)["back_end"]["loops"]
    assert loops["found"] >= len(loops["kept"]) >= 3
    ends = np.array(loops["kept"])
    assert (np.abs(ends[:, 1] - ends[:, 0] - ROUND) < 15).all()
    truth = Trajectory.load(way_round / "truth.tum")
    raw, closed = (Trajectory.load(tmp_path / f"{name}.tum") for name in ("trajectory", "trajectory_loops"))
    np.testing.assert_array_equal(closed.times, raw.times)
    errors = [evaluate_odometry(truth, found, "sim3").ate for found in (raw, closed)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1].rmse < errors[0].rmse / 2


@pytest.mark.slow
def test_loops_leave_a_trajectory_in_metres_in_metres(way_round: Path, tmp_path: Path, trianflow) -> None:
    words = ("vo", way_round / "images", "--loops", "--speed", way_round / "speeds.txt")
    result = trianflow(*words, "--gt", way_round / "truth.tum", "--out", tmp_path)
    assert (result.code, result.errors) == (0, [])
    report = report_of(tmp_path)
    assert report["summary"]["unit"] == "metres"
    assert set(report["frames"][-2]["scale_shares"]) <= {"structure", "speed"}
    kept = np.array(report["back_end"]["loops"]["kept"])
    assert len(kept) >= 3
    assert (np.abs(kept[:, 1] - kept[:, 0] - ROUND) < 15).all()
    truth = Trajectory.load(way_round / "truth.tum")
    raw, closed = (Trajectory.load(tmp_path / f"{name}.tum") for name in ("trajectory", "trajectory_loops"))
    for found in (raw, closed):
        assert found.path_length == pytest.approx(truth.path_length, rel=0.03)
    errors = [evaluate_odometry(truth, found, "se3").ate for found in (raw, closed)]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1].rmse < 0.85 * errors[0].rmse  # the speed leaves little to close
    # the place where the way began is seen again, in metres
    meets = [np.linalg.norm(found.positions[b] - found.positions[a]) for found in (closed, truth) for a, b in kept[-1:]]
    assert meets[0] == pytest.approx(meets[1], abs=0.1)


def test_a_drive_without_a_loop_has_no_second_trajectory(drive: Path, tmp_path: Path, trianflow) -> None:
    out = tmp_path / "result"
    result = trianflow("vo", drive / "images", "--preset", "fast", "--loops", "--out", out)
    assert result.code == 0
    assert {path.name for path in out.iterdir()} == FILES
    assert "no loop was found" in result.err
    assert "no loop was found" in report_of(out)["notes"]
    assert report_of(out)["back_end"]["loops"] == {"found": 0, "kept": []}
