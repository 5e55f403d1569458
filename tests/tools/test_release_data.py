"""The tools that make what the bundled weights learn from: packed frames, and depth of them by our own odometry."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tests.odometry.corridor import CAMERA, CONFIG, Corridor, drive
from tests.tools.test_release import RELEASE, tool
from trianflow.data.calibration import read_calibration
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.run import run_odometry


@pytest.fixture
def structure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RELEASE))
    return tool("structure")


def test_depth_maps_are_those_of_the_world_in_one_unit(tmp_path: Path, structure: ModuleType) -> None:
    """Of a window of half the size: every map differs from the truth by the same factor, which is that of the path."""
    world = Corridor(drive(16))
    small = CAMERA.resized(120, 60).cropped(0, 8, 120, 44)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(16):
        (images / f"{i:06d}.jpg").write_bytes(bytes([i]))
    maps = structure.DepthMaps(tmp_path / "labelled", small, images)
    run = run_odometry(world.frames(), CAMERA, CONFIG, tmp_path / "run", estimators=Estimators(world), observers=[maps])
    steps = [np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) for T in (run.trajectory.T_wc, world.T_wc)]
    unit = float(np.median(steps[0] / steps[1]))
    files = sorted((tmp_path / "labelled" / "depth").glob("*.png"))
    assert 8 <= len(files) < 16
    of_them = sorted((tmp_path / "labelled" / "images").iterdir())
    assert [(file.stem, file.read_bytes()) for file in of_them] == [(f.stem, bytes([int(f.stem)])) for f in files]
    ratios = []
    for file in files:
        found = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / structure.SCALE
        assert found.shape == (44, 120)
        truth = world.depth(int(file.stem))[16:104:2, ::2]  # the nearest pixels, half a pixel aside
        known = found > 0
        assert known.mean() > 0.3
        ratios.append(np.median(found[known] / truth[known]) / unit)
        error = np.abs(found / unit / truth / ratios[-1] - 1)[known]
        assert np.median(error) < 0.02
    assert np.ptp(ratios) < 0.03
    assert np.median(ratios) == pytest.approx(1, abs=0.03)


def test_a_map_is_resampled_to_the_same_rays(structure: ModuleType) -> None:
    """Depth that is a function of the ray alone: the window has that of its own rays, and nothing beyond the image."""

    def of_rays(camera):
        x = (np.arange(camera.width) - camera.cx) / camera.fx
        y = (np.arange(camera.height) - camera.cy)[:, None] / camera.fy
        return (5 + 2 * x - y).astype(np.float32)

    small = CAMERA.resized(60, 30).cropped(10, -4, 60, 30)
    found, expected = structure.resampled(of_rays(CAMERA), CAMERA, small), of_rays(small)
    inside = np.zeros((30, 60), bool)
    inside[4:, :50] = True
    np.testing.assert_array_equal(found > 0, inside)
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)


def test_packed_frames_are_a_window_around_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, frames = tool("pack"), tmp_path / "drive" / "images"
    frames.mkdir(parents=True)
    gradient = np.repeat(np.arange(120, dtype=np.uint8)[:, None], 160, 1)  # each row says its number
    for i in range(3):
        cv2.imwrite(str(frames / f"{i:03d}.png"), gradient)
    (tmp_path / "drive" / "calib.yaml").write_text("{fx: 100, fy: 100, cx: 79.5, cy: 39.5, width: 160, height: 120}\n")
    monkeypatch.setattr(pack, "PACKED", tmp_path / "packed")
    monkeypatch.setattr(sys, "argv", ["pack.py", str(frames), "drive", "--width", "80", "--height", "30"])
    pack.main()
    camera = read_calibration(tmp_path / "packed" / "drive" / "calib.yaml")
    assert (camera.width, camera.height, camera.fx) == (80, 30, 50)
    files = sorted((tmp_path / "packed" / "drive" / "images").iterdir())
    assert [file.name for file in files] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    rows = cv2.imread(str(files[0]), cv2.IMREAD_GRAYSCALE).astype(float).mean(1)
    # the row of the axis, 39.5 in the frames, says so in the window as well
    assert np.interp(camera.cy, np.arange(30), rows) == pytest.approx(39.5, abs=1)
    assert abs(camera.cy - 14.5) <= 1


@pytest.mark.parametrize(
    ("name", "words"), [("pack", []), ("structure", ["--camera-height", "1.5", "key_motion=0.1"])]
)
@pytest.mark.parametrize("folder", ["kitti_odom_07_000-159", "kitti_mini_depth/10/images", "tum_fr1_desk_9frames"])
def test_what_is_held_out_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: list[str],
    folder: str,
) -> None:
    monkeypatch.syspath_prepend(str(RELEASE))
    monkeypatch.setattr(sys, "argv", [name, str(tmp_path / folder), "innocent", *words])
    with pytest.raises(SystemExit):
        tool(name).main()
    assert "held out for measuring" in capsys.readouterr().err
