"""KITTI raw."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.data.datasets.kitti_raw import imu_poses, open_kitti_raw
from trianflow.errors import TrianflowError, UsageError

from .kitti_trees import (
    DATE,
    DRIVE,
    HEIGHT,
    IMU_TO_VELO,
    VELO_TO_CAM,
    WIDTH,
    K,
    projection,
    rectification,
    scan_of,
    write_drive,
    write_image,
)
from .test_velodyne import in_loops

LEFT = f"{DATE}/{DRIVE}/image_02"
NEXT = "2011_09_26_drive_0002_sync"


def only(root: Path, camera: int = 2):
    (sequence,) = open_kitti_raw(root, (camera,)).sequences
    return sequence


def embedded(T: np.ndarray) -> np.ndarray:
    """A `(3, 3)` rotation in the upper left of a `(4, 4)`."""
    whole = np.eye(4)
    whole[:3, :3] = T
    return whole


@pytest.mark.parametrize("below", ["", DATE, f"{DATE}/{DRIVE}"])
def test_the_official_layout(tmp_path: Path, below: str) -> None:
    write_drive(tmp_path)
    content = open_kitti_raw(tmp_path / below)
    assert content.problems == ()
    assert [s.name for s in content.sequences] == [LEFT, f"{DATE}/{DRIVE}/image_03"]
    assert [s.problems for s in content.sequences] == [(), ()]
    sequence = content.sequences[0]
    assert (sequence.camera.fx, sequence.camera.cx) == (70.0, 47.0)
    assert (sequence.camera.width, sequence.camera.height) == (WIDTH, HEIGHT)
    assert len(list(sequence.frames)) == len(sequence) == 6
    assert sequence.frames.times[0] == pytest.approx(1317042140.094360375, abs=1e-6)  # 13:02:20 UTC
    np.testing.assert_allclose(np.diff(sequence.frames.times), 0.1, atol=1e-6)


def test_imu_poses_by_other_formulas() -> None:
    rng = np.random.default_rng(5)
    oxts = np.c_[
        49 + rng.normal(0, 1e-3, 8), 8.4 + rng.normal(0, 1e-3, 8), rng.normal(110, 3, 8), rng.normal(0, 1, (8, 3))
    ]
    T_wi = imu_poses(oxts)
    scale = math.cos(oxts[0, 0] * math.pi / 180)
    for row, T in zip(oxts, T_wi):
        x = scale * row[1] * math.pi * 6378137 / 180
        y = scale * 6378137 * math.log(math.tan((90 + row[0]) * math.pi / 360))
        np.testing.assert_allclose(T[:3, 3], (x, y, row[2]), rtol=1e-12)
        np.testing.assert_allclose(T[:3, :3], Rotation.from_euler("xyz", row[3:6]).as_matrix(), atol=1e-12)
    # near the first latitude the projection is true to length
    moved = T_wi[1:, :2, 3] - T_wi[0, :2, 3]
    arc = np.radians(oxts[1:, :2] - oxts[0, :2]) * 6378137 * (1, scale)
    np.testing.assert_allclose(moved, arc[:, ::-1], rtol=1e-4, atol=0.02)
    assert imu_poses(np.zeros((0, 30))).shape == (0, 4, 4)


@pytest.mark.parametrize("camera", [0, 2, 3])
def test_poses_of_the_camera(tmp_path: Path, camera: int) -> None:
    rows = write_drive(tmp_path)
    sequence = only(tmp_path, camera)
    np.testing.assert_array_equal(sequence.poses.times, sequence.frames.times)
    # a fixed point of the world has the same pixels through every sensor on the way, as by the pose and K
    T_wi = imu_poses(rows)
    X_w = T_wi[0] @ np.array([14.0, 1.0, 0.5, 1.0])
    whole = projection(camera) @ embedded(rectification()) @ VELO_TO_CAM @ IMU_TO_VELO
    X_first = np.linalg.inv(K) @ whole @ np.linalg.inv(T_wi[0]) @ X_w
    for T, T_wc in zip(T_wi, sequence.poses.T_wc):
        by_sensors = whole @ np.linalg.inv(T) @ X_w
        by_pose = K @ (np.linalg.inv(T_wc) @ [*X_first, 1.0])[:3]
        np.testing.assert_allclose(by_pose, by_sensors, atol=1e-5)
    np.testing.assert_array_equal(sequence.poses.T_wc[0], np.eye(4))
    assert sequence.poses.T_wc[5, 2, 3] > 4  # the car goes forward, which is z


def test_speed_is_over_ground(tmp_path: Path) -> None:
    write_drive(tmp_path)
    sequence = only(tmp_path)
    assert [sequence.speed(i) for i in range(6)] == pytest.approx([math.sqrt((8 + i) ** 2 + 0.6**2) for i in range(6)])


@pytest.mark.parametrize("camera", [2, 3])
def test_depth_as_the_evaluation_of_eigens_split_has_it(tmp_path: Path, camera: int) -> None:
    write_drive(tmp_path)
    P = projection(camera) @ embedded(rectification()) @ VELO_TO_CAM
    sequence = only(tmp_path, camera)
    for eigen, depth in ((False, sequence.depth(3)), (True, sequence.scoring_depth(3))):
        expected = in_loops(scan_of(3), P, eigen)
        assert (expected > 0).sum() > 20
        np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_a_frame_that_is_missing_moves_no_other(tmp_path: Path) -> None:
    write_drive(tmp_path)
    whole = only(tmp_path)
    images = tmp_path / DATE / DRIVE / "image_02" / "data"
    (images / "0000000002.png").unlink()
    left, right = open_kitti_raw(tmp_path).sequences
    assert (left.numbers, left.absent) == (tuple(range(6)), {2})
    assert [frame.image is None for frame in left.frames] == [False, False, True, False, False, False]
    np.testing.assert_array_equal(left.frames.times, whole.frames.times)
    np.testing.assert_array_equal(left.poses.T_wc, whole.poses.T_wc)
    np.testing.assert_array_equal(left.depth(3), whole.depth(3))
    assert left.speed(3) == whole.speed(3)
    assert left.problems == (f"{images}: 1 of 6 frames are missing (2); unpack {DRIVE}.zip again",)
    assert right.problems == ()


def test_dropped_scans_and_damaged_oxts(tmp_path: Path) -> None:
    write_drive(tmp_path)
    whole = only(tmp_path)
    folder = tmp_path / DATE / DRIVE
    for number in (2, 3):
        (folder / f"velodyne_points/data/000000000{number}.bin").unlink()
    scan = folder / "velodyne_points/data/0000000004.bin"
    scan.write_bytes(scan.read_bytes()[:1001])
    oxts = folder / "oxts" / "data"
    (oxts / "0000000001.txt").unlink()
    (oxts / "0000000005.txt").write_text("49.0 8.4 116")
    (oxts / ".DS_Store").write_bytes(b"x")
    sequence = only(tmp_path)
    assert [sequence.depth(i) is None for i in (0, 1, 2, 3, 5)] == [False, False, True, True, False]
    with pytest.raises(TrianflowError, match=r"0000000004\.bin: truncated"):
        sequence.depth(4)
    assert [sequence.speed(i) is None for i in range(6)] == [False, True, False, False, False, True]
    np.testing.assert_allclose(sequence.poses.T_wc, whole.poses.T_wc[[0, 2, 3, 4]], atol=1e-12)
    np.testing.assert_array_equal(sequence.poses.times, np.array(whole.frames.times)[[0, 2, 3, 4]])
    scans, missing, damaged = sequence.problems
    assert scans.startswith(f"{folder / 'velodyne_points/data'}: no scan for 2 of 6 frames (2-3), which have no depth")
    assert missing.startswith(f"{oxts}: 1 files are missing (1): no pose nor speed")
    assert damaged == (
        f"{oxts}: 1 files do not hold 30 numbers (5): no pose nor speed for these frames; unpack {DRIVE}.zip again"
    )


def test_scans_that_the_archive_does_not_have_are_no_problem(tmp_path: Path) -> None:
    drive = "2011_09_26_drive_0009_sync"
    write_drive(tmp_path, drive, numbers=tuple(range(176, 183)))
    stamps = "".join(f"2011-09-26 13:02:{20 + i / 10:09.6f}\n" for i in range(183))
    (tmp_path / DATE / drive / "image_02" / "timestamps.txt").write_text(stamps)
    scans = tmp_path / DATE / drive / "velodyne_points" / "data"
    for number in range(177, 181):
        (scans / f"0000000{number}.bin").unlink()
    assert not any("no scan" in problem for problem in only(tmp_path).problems)
    (scans / "0000000181.bin").unlink()
    assert f"{scans}: no scan for 1 of 7 frames (181), which" in "\n".join(only(tmp_path).problems)


def test_a_drive_of_images_alone(tmp_path: Path) -> None:
    write_drive(tmp_path)
    for part in ("oxts", "velodyne_points"):
        shutil.rmtree(tmp_path / DATE / DRIVE / part)
    for name in ("imu_to_velo", "velo_to_cam"):
        (tmp_path / DATE / f"calib_{name}.txt").unlink()
    sequence = only(tmp_path)
    assert (sequence.poses, sequence.depth(0), sequence.speed(0)) == (None, None, None)
    assert [p.split(":")[0].split("/")[-1] for p in sequence.problems] == [
        *("data", "calib_velo_to_cam.txt", "calib_imu_to_velo.txt", "data")
    ]
    assert f"unpack {DATE}_calib.zip" in sequence.problems[1]


def test_broken_times_cost_no_others(tmp_path: Path) -> None:
    write_drive(tmp_path)
    whole = np.array(only(tmp_path).frames.times)
    path = tmp_path / DATE / DRIVE / "image_02" / "timestamps.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:4]) + "\n")
    sequence = only(tmp_path)
    np.testing.assert_allclose(sequence.frames.times, whole, rtol=0, atol=1e-6)
    assert sequence.problems[0].startswith(
        f"{path}:5: no time between its neighbours'; the times of the frames 4-5 are"
    )
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    sequence = only(tmp_path)
    np.testing.assert_allclose(sequence.frames.times, [whole[1], whole[1] + 0.05, *whole[2:]], rtol=0, atol=1e-6)
    assert sequence.problems[0].startswith(f"{path}:2: no time between its neighbours'; the times of the frames 1 are")
    path.write_text("yesterday\n" * 6)
    np.testing.assert_allclose(only(tmp_path).frames.times, np.arange(6) / 10)
    assert "no time in it; frames are taken as 10 frames a second" in only(tmp_path).problems[0]
    path.unlink()
    assert f"{path}: No such file or directory" in only(tmp_path).problems[0]


def test_one_bad_camera_or_drive_stops_no_other(tmp_path: Path) -> None:
    write_drive(tmp_path)
    write_drive(tmp_path, NEXT)
    folder = tmp_path / DATE / DRIVE
    for i in range(6):
        write_image(folder / f"image_02/data/{i:010d}.png", i, size=(50, 14))
    shutil.rmtree(tmp_path / DATE / NEXT / "image_02")
    shutil.rmtree(tmp_path / DATE / NEXT / "image_03")
    (tmp_path / DATE / NEXT / "images.zip").write_bytes(b"PK")
    content = open_kitti_raw(tmp_path)
    assert [s.name for s in content.sequences] == [f"{DATE}/{DRIVE}/image_03"]
    size, packed = content.problems
    assert size.startswith(f"{tmp_path / DATE / 'calib_cam_to_cam.txt'}: the calibration is for 96x32 images but")
    assert "50x14" in size
    assert packed.startswith(f"{tmp_path / DATE / NEXT}: no image_02 or image_03 in it; unpack images.zip, found in")


def test_truncated_and_stray_images(tmp_path: Path) -> None:
    write_drive(tmp_path)
    images = tmp_path / DATE / DRIVE / "image_02" / "data"
    damaged = images / "0000000000.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    write_image(images / "0000000003.png", 1, size=(50, 14))
    write_image(images / "trajectory.png", 1)
    sequence = only(tmp_path)
    frames = list(sequence.frames)
    assert [f.image is None for f in frames] == [True, False, False, True, False, False]
    assert "truncated PNG" in frames[0].problem
    assert frames[3].problem == "size 50x14 differs from 96x32"
    assert sequence.problems == ()
    assert sequence.notes == (
        f"{images}: left out trajectory.png: not numbered images; remove what does not belong there",
    )


def test_archives_and_nested_folders(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_drive(root / DRIVE)  # unpacked into a folder of its own name
    calibration = root / f"{DATE}_calib" / DATE
    calibration.mkdir(parents=True)
    for path in (root / DRIVE / DATE).glob("calib_*.txt"):
        shutil.move(path, calibration)
    (root / f"{NEXT}.zip").write_bytes(b"PK")
    shutil.copytree(
        root / DRIVE / DATE / DRIVE / "image_02", root / DATE / "2011_09_26_drive_0003_extract" / "image_02"
    )
    (root / DATE / ".DS_Store").write_bytes(b"x")
    content = open_kitti_raw(root)
    assert [s.name for s in content.sequences] == [LEFT, f"{DATE}/{DRIVE}/image_03"]
    assert content.sequences[0].poses is not None
    assert content.sequences[0].depth(0) is not None
    packed, unsynchronised = content.problems
    (nested,) = content.notes
    assert packed == f"{root / NEXT}.zip: an archive that is not unpacked; unpack it in {root}, or move it away"
    assert nested == f"{root / DRIVE / DATE / DRIVE}: nested deeper than usual, move it to {root / LEFT[:-9]}"
    assert "neither synchronised nor rectified; download 2011_09_26_drive_0003_sync.zip" in unsynchronised
    shutil.copytree(root / DRIVE / DATE / DRIVE, root / DATE / DRIVE)
    content = open_kitti_raw(root)
    assert len(content.sequences) == 2
    assert any("found in another folder" in problem for problem in content.problems)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"no usable sequence: expected folders such as 2011_09_26"):
        open_kitti_raw(tmp_path)
    (tmp_path / f"{DRIVE}.zip").write_bytes(b"PK")
    with pytest.raises(TrianflowError, match=rf"{DRIVE}\.zip: an archive that is not unpacked"):
        open_kitti_raw(tmp_path)
    with pytest.raises(TrianflowError, match="nowhere: no such folder"):
        open_kitti_raw(tmp_path / "nowhere")
    write_drive(tmp_path)
    with pytest.raises(UsageError, match="cameras 0 to 3, not 2, 7"):
        open_kitti_raw(tmp_path, (2, 7))
    (tmp_path / DATE / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(TrianflowError, match=rf"calib_cam_to_cam\.txt.*unpack {DATE}_calib\.zip"):
        open_kitti_raw(tmp_path)
