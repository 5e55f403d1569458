"""KITTI odometry."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.kitti_odometry import open_kitti_odometry
from trianflow.errors import TrianflowError, UsageError

from .kitti_trees import HEIGHT, VELO_TO_CAM, WIDTH, K, projection, scan_of, write_image, write_odometry
from .test_velodyne import in_loops


def only(root: Path, camera: int | None = None):
    (sequence,) = open_kitti_odometry(root, () if camera is None else (camera,)).sequences
    return sequence


@pytest.mark.parametrize("below", ["", "dataset", "dataset/sequences"])
def test_the_official_layout(tmp_path: Path, below: str) -> None:
    write_odometry(tmp_path / "dataset", ("00", "02", "11"))
    content = open_kitti_odometry(tmp_path / below)
    assert content.problems == ()
    assert [s.name for s in content.sequences] == ["00", "02", "11"]
    assert [s.problems for s in content.sequences] == [()] * 3
    sequence = content.sequences[0]
    assert len(sequence) == 6
    assert (sequence.camera.fx, sequence.camera.cx, sequence.camera.cy) == (70.0, 47.0, 15.0)
    assert (sequence.camera.width, sequence.camera.height) == (WIDTH, HEIGHT)
    assert [f.time for f in sequence.frames] == pytest.approx([0.103 * i for i in range(6)])
    assert all(f.image is not None and f.image.shape == (HEIGHT, WIDTH, 3) for f in sequence.frames)
    assert content.sequences[2].poses is None
    assert (sequence.speed(0), sequence.flow(0), sequence.instances(0)) == (None, None, None)
    assert pickle.loads(pickle.dumps(sequence)).name == "00"


@pytest.mark.parametrize("camera", [0, 1, 2, 3])
def test_poses_are_those_of_the_camera(tmp_path: Path, camera: int) -> None:
    T_w0 = write_odometry(tmp_path)
    sequence = only(tmp_path, camera)
    assert sequence.frames.files[0].parent.name == f"image_{camera}"
    np.testing.assert_allclose(sequence.poses.T_wc[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(sequence.poses.times, 0.103 * np.arange(6))
    # a point of the world has the same pixels by the pose of camera 0 and P, as by the pose of the camera and K
    shift = np.linalg.inv(K) @ projection(camera)[:, 3]
    for T_0, T_c in zip(T_w0, sequence.poses.T_wc):
        X = np.array([1.0, -0.5, 12.0, 1.0])  # in the world of camera 0
        by_P = projection(camera) @ np.linalg.inv(T_0) @ X
        by_K = K @ (np.linalg.inv(T_c) @ (X + np.array([*shift, 0.0])))[:3]
        np.testing.assert_allclose(by_P, by_K, atol=1e-9)


@pytest.mark.parametrize("camera", [0, 2])
def test_depth_is_the_scan_in_the_camera(tmp_path: Path, camera: int) -> None:
    write_odometry(tmp_path)
    sequence = only(tmp_path, camera)
    expected = in_loops(scan_of(4), projection(camera) @ VELO_TO_CAM, 0)
    assert (expected > 0).sum() > 20
    np.testing.assert_allclose(sequence.depth(4), expected, rtol=1e-6)


@pytest.mark.data
def test_real_scans_poses_and_images_agree(tmp_path: Path, shared_data: Path) -> None:
    source, folder = shared_data / "kitti_odom_10_color_velodyne", tmp_path / "sequences" / "10"
    folder.mkdir(parents=True)
    (tmp_path / "poses").mkdir()
    for name, place in (("images", "image_2"), ("velodyne", "velodyne"), ("calib_kitti.txt", "calib.txt")):
        (folder / place).symlink_to(source / name)
    (tmp_path / "poses" / "10.txt").symlink_to(source / "poses.txt")
    (folder / "times.txt").write_text("".join(f"{i / 10}\n" for i in range(10)))
    sequence = only(tmp_path)
    assert len(sequence.problems) == 1  # scans of two frames are there
    first, second = (cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY) for f in sequence.frames.select((0, 1)))
    depth = sequence.depth(0)
    corners = cv2.goodFeaturesToTrack(first, 12000, 0.001, 2)
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, winSize=(21, 21))
    pixels = corners[:, 0].round().astype(int)
    z = depth[pixels[:, 1], pixels[:, 0]]
    kept = (found[:, 0] == 1) & (z > 0)
    assert kept.sum() > 200
    camera = sequence.camera
    matrix = camera.K().numpy()
    X = np.linalg.inv(matrix) @ np.c_[corners[kept, 0], np.ones(kept.sum())].T * z[kept]
    T_10 = np.linalg.inv(sequence.poses.T_wc[1]) @ sequence.poses.T_wc[0]
    moved = matrix @ (T_10[:3, :3] @ X + T_10[:3, 3:])
    errors = np.linalg.norm((moved[:2] / moved[2]).T - tracked[kept, 0], axis=1)
    assert np.median(errors) < 0.6
    assert np.median(np.linalg.norm(corners[kept, 0] - tracked[kept, 0], axis=1)) > 3  # the car moves


def test_colour_is_preferred(tmp_path: Path) -> None:
    write_odometry(tmp_path)
    assert only(tmp_path).frames.files[0].parent.name == "image_2"
    for number in (2, 3):
        for file in (tmp_path / "sequences" / "00" / f"image_{number}").iterdir():
            file.unlink()
    assert only(tmp_path).frames.files[0].parent.name == "image_0"
    with pytest.raises(TrianflowError, match=r"image_2: no numbered images.*data_odometry_color\.zip"):
        open_kitti_odometry(tmp_path, (2,))
    for cameras in ((4,), (2, 3)):
        with pytest.raises(UsageError, match=f"one of the cameras 0 to 3, not {cameras[0]}"):
            open_kitti_odometry(tmp_path, cameras)


def test_a_frame_that_is_missing_moves_no_other(tmp_path: Path) -> None:
    write_odometry(tmp_path)
    whole = only(tmp_path)
    (tmp_path / "sequences/00/image_2/000002.png").unlink()
    sequence = only(tmp_path)
    assert (sequence.numbers, sequence.absent) == (tuple(range(6)), {2})
    frames = list(sequence.frames)
    assert [(f.name, f.problem) for f in frames if f.image is None] == [("000002.png", "No such file or directory")]
    np.testing.assert_allclose([f.time for f in frames], 0.103 * np.arange(6))
    np.testing.assert_array_equal(sequence.poses.T_wc, whole.poses.T_wc)
    np.testing.assert_array_equal(sequence.poses.times, sequence.frames.times)
    np.testing.assert_array_equal(sequence.depth(3), whole.depth(3))
    images = tmp_path / "sequences/00/image_2"
    assert sequence.problems == (f"{images}: 1 of 6 frames are missing (2); unpack data_odometry_color.zip again",)
    for number in (0, 5):
        (images / f"00000{number}.png").unlink()
    sequence = only(tmp_path)
    assert sequence.numbers == (1, 2, 3, 4)
    np.testing.assert_array_equal(sequence.poses.T_wc, whole.poses.T_wc[1:5])
    np.testing.assert_array_equal(sequence.depth(2), whole.depth(3))
    assert "3 of 6 frames are missing (0, 2, 5)" in sequence.problems[0]


def test_truncated_files(tmp_path: Path) -> None:
    write_odometry(tmp_path, ("00", "01"))
    folder = tmp_path / "sequences" / "00"
    image, scan, poses = folder / "image_2/000003.png", folder / "velodyne/000001.bin", tmp_path / "poses/00.txt"
    image.write_bytes(image.read_bytes()[:500])
    scan.write_bytes(scan.read_bytes()[:500])
    lines = poses.read_text().splitlines()
    poses.write_text("\n".join([*lines[:4], lines[4][:99]]))
    broken, whole = open_kitti_odometry(tmp_path).sequences
    frame = list(broken.frames)[3]
    assert frame.image is None
    assert "truncated PNG" in frame.problem
    with pytest.raises(TrianflowError, match=r"000001\.bin: truncated"):
        broken.depth(1)
    assert broken.depth(0) is not None
    assert len(broken.poses) == 4
    assert broken.problems == (f"{poses}: 4 poses, none for the frames 4-5; unpack data_odometry_poses.zip again",)
    assert whole.problems == ()
    assert len(whole.poses) == 6


def test_a_damaged_row_of_poses_leaves_the_frames(tmp_path: Path) -> None:
    write_odometry(tmp_path)
    path = tmp_path / "poses/00.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "1 2 nonsense", *lines[3:]]) + "\n")
    sequence = only(tmp_path)
    assert sequence.poses is None
    assert len(sequence.problems) == 1
    assert f"{path}:3" in sequence.problems[0]
    path.unlink()
    (problem,) = only(tmp_path).problems
    assert problem == f"{path}: no such file; unpack data_odometry_poses.zip so that it is there"
    (tmp_path / "data_odometry_poses.zip").write_bytes(b"PK")
    (problem,) = only(tmp_path).problems
    assert problem.endswith(f"unpack {tmp_path / 'data_odometry_poses.zip'}, which lies there as it was downloaded")


@pytest.mark.parametrize(
    ("text", "times", "line", "frames"),
    [
        ("0.0\n0.1\n0.2\n", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 4, "3-5"),
        ("0.0\n0.1\n0.3\n0.2\n0.5\n0.6\n", (0, 0.1, 0.3, 0.4, 0.5, 0.6), 4, "3"),
        ("0.0\n0.1\nnan\n0.3\n0.5\n0.6\n", (0, 0.1, 0.2, 0.3, 0.5, 0.6), 3, "2"),
        ("0.0\n0.1\n99\n0.3\n0.5\n0.6\n", (0, 0.1, 0.2, 0.3, 0.5, 0.6), 3, "2"),
        ("9\n0.1\n0.2\n0.3\n0.4\n0.5\n", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 1, "0"),
        ("0.0\n0.2\nx\n", (0, 0.2, 0.4, 0.6, 0.8, 1.0), 3, "2-5"),
    ],
)
def test_a_time_that_is_broken_costs_no_other(
    tmp_path: Path, text: str, times: tuple[float, ...], line: int, frames: str
) -> None:
    write_odometry(tmp_path)
    path = tmp_path / "sequences/00/times.txt"
    path.write_text(text)
    sequence = only(tmp_path)
    np.testing.assert_allclose(sequence.frames.times, times, atol=1e-12)
    np.testing.assert_array_equal(sequence.poses.times, sequence.frames.times)
    assert sequence.problems == (
        f"{path}:{line}: no time between its neighbours'; the times of the frames {frames} are made of the others',"
        " unpack data_odometry_color.zip again",
    )


@pytest.mark.parametrize(("text", "message"), [("x\n", "no time in it"), (None, "No such file or directory")])
def test_without_times(tmp_path: Path, text: str | None, message: str) -> None:
    write_odometry(tmp_path)
    path = tmp_path / "sequences/00/times.txt"
    path.unlink()
    if text is not None:
        path.write_text(text)
    sequence = only(tmp_path)
    np.testing.assert_allclose(sequence.frames.times, np.arange(6) / 10)
    assert sequence.problems == (
        f"{path}: {message}; frames are taken as 10 frames a second, unpack data_odometry_color.zip again",
    )


def test_images_of_another_size(tmp_path: Path) -> None:
    write_odometry(tmp_path, ("00", "01"))
    folder = tmp_path / "sequences" / "00"
    write_image(folder / "image_2/000004.png", 1, size=(48, 16))
    frames = list(open_kitti_odometry(tmp_path).sequences[0].frames)
    assert [f.image is None for f in frames] == [False] * 4 + [True, False]
    assert frames[4].problem == "size 48x16 differs from 96x32"
    write_image(folder / "image_2/000004.png", 1)
    write_image(folder / "image_2/000000.png", 1, size=(40, 14))  # the first is no better than the others
    frames = list(open_kitti_odometry(tmp_path).sequences[0].frames)
    assert [f.image is None for f in frames] == [True] + [False] * 5
    for i in range(6):
        write_image(folder / f"image_2/{i:06d}.png", i, size=(40, 14))
    content = open_kitti_odometry(tmp_path)
    assert [s.name for s in content.sequences] == ["01"]
    (problem,) = content.problems
    assert problem.startswith(f"{folder / 'calib.txt'}: the principal point (47, 15) lies outside the 40x14 frames")


def test_files_that_do_not_belong_there(tmp_path: Path) -> None:
    write_odometry(tmp_path)
    images = tmp_path / "sequences/00/image_2"
    (images / ".DS_Store").write_bytes(b"x")
    write_image(images / "plot.png", 1)
    write_image(images / "20240131120000.png", 1)
    (tmp_path / "sequences" / "notes").mkdir()
    sequence = only(tmp_path)
    assert len(sequence) == 6
    assert sequence.problems == ()
    assert sequence.notes == (
        f"{images}: left out 20240131120000.png, plot.png: not numbered images; remove what does not belong there",
    )


def test_calibration_without_laser_and_without_camera(tmp_path: Path) -> None:
    write_odometry(tmp_path, ("00", "01"))
    path = tmp_path / "sequences/00/calib.txt"
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole[:4]))  # as in the archives of the images
    sequence = open_kitti_odometry(tmp_path).sequences[0]
    assert sequence.depth(0) is None
    (problem,) = sequence.problems
    assert problem.startswith(f"{path}: no line Tr: in it; unpack data_odometry_calib.zip")
    path.write_text("\n".join([*whole[:2], "P2: 1 2 3", *whole[3:]]))
    content = open_kitti_odometry(tmp_path)
    assert [s.name for s in content.sequences] == ["01"]
    assert content.problems == (f"{path}: P2 must have 12 numbers; unpack data_odometry_calib.zip again",)
    path.unlink()
    (problem,) = open_kitti_odometry(tmp_path).problems
    assert problem.startswith(f"{path}: No such file or directory; unpack data_odometry_calib.zip")


def test_scans_that_are_missing(tmp_path: Path) -> None:
    write_odometry(tmp_path)
    (tmp_path / "sequences/00/velodyne/000003.bin").unlink()
    sequence = only(tmp_path)
    assert sequence.depth(3) is None
    assert sequence.depth(2) is not None
    (problem,) = sequence.problems
    assert "velodyne: no scan for 1 of 6 frames (3), which have no depth; unpack data_odometry_velodyne.zip" in problem


def test_archives_that_are_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data_odometry_color.zip").write_bytes(b"PK")
    with pytest.raises(
        TrianflowError, match=r"no folder sequences.*unpack .*/data_odometry_color\.zip, which lies there"
    ):
        open_kitti_odometry(tmp_path)
    with pytest.raises(TrianflowError, match=r"data_odometry_color\.zip: a file; unpack it"):
        open_kitti_odometry(tmp_path / "data_odometry_color.zip")
    with pytest.raises(TrianflowError, match="nowhere: no such folder"):
        open_kitti_odometry(tmp_path / "nowhere")
    write_odometry(tmp_path / "dataset")
    (tmp_path / "dataset/sequences/01.zip").write_bytes(b"PK")
    (tmp_path / "dataset/sequences/02").mkdir()
    (tmp_path / "dataset/sequences/02/calib.txt").write_text((tmp_path / "dataset/sequences/00/calib.txt").read_text())
    content = open_kitti_odometry(tmp_path)
    assert [s.name for s in content.sequences] == ["00"]
    assert [p.split(":")[0].split("/")[-1] for p in content.problems] == ["01.zip", "image_2"]


def test_nested_folders(tmp_path: Path) -> None:
    write_odometry(tmp_path / "dataset" / "dataset")
    content = open_kitti_odometry(tmp_path)
    assert len(content.sequences) == 1
    assert len(content.sequences[0].poses) == 6
    (problem,) = content.notes
    assert content.problems == ()
    assert problem.startswith(f"{tmp_path / 'dataset/dataset/sequences'}: nested deeper than usual; name")
