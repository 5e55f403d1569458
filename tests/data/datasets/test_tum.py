"""The reader of TUM RGB-D."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.tum import open_tum
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

START = 1305031102.175304
FRAMES = 6


def picture(number: int, width: int = 640, height: int = 480) -> np.ndarray:
    return np.full((height, width, 3), 10 * number + 5, np.uint8)


def write_sequence(folder: Path, depth_offset: float = 0.012) -> Path:
    """A sequence as the archive of the benchmark unpacks: 30 images a second, depth a little later, 100 poses."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    lists = {"rgb": [], "depth": []}
    for i in range(FRAMES):
        for name, time in (("rgb", START + i / 30), ("depth", START + i / 30 + depth_offset)):
            image = picture(i) if name == "rgb" else np.full((480, 640), 5000 + 1000 * i, np.uint16)
            cv2.imwrite(str(folder / name / f"{time:.6f}.png"), image)
            lists[name].append(f"{time:.6f} {name}/{time:.6f}.png")
    for name, rows in lists.items():
        header = f"# {name} images\n# file: 'x.bag'\n# timestamp filename\n"
        (folder / f"{name}.txt").write_text(header + "\n".join(rows) + "\n")
    times = START - 0.1 + np.arange(60) / 100
    rows = [f"{t:.4f} {t - START:.4f} 0.5 1.25 0 0 0 1" for t in times]
    (folder / "groundtruth.txt").write_text("# ground truth trajectory\n" + "\n".join(rows) + "\n")
    (folder / "accelerometer.txt").write_text("# accelerometer data\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sequence(tmp_path / "rgbd_dataset_freiburg1_xyz")
    return tmp_path


def test_official_layout(root: Path) -> None:
    found = open_tum(root)
    assert found.problems == ()
    (sequence,) = found.sequences
    assert sequence.name == "rgbd_dataset_freiburg1_xyz"
    assert sequence.problems == ()
    assert len(sequence) == FRAMES
    assert (sequence.camera.fx, sequence.camera.cy) == (517.306408, 255.313989)
    assert sequence.camera.distortion == (0.262383, -0.953104, -0.005358, 0.002628, 1.163314)
    frames = list(sequence.frames)
    assert [frame.image[0, 0, 0] for frame in frames] == [5, 15, 25, 35, 45, 55]
    assert [frame.time for frame in frames] == pytest.approx([START + i / 30 for i in range(FRAMES)], abs=1e-6)
    for i in range(FRAMES):
        depth = sequence.depth(i)
        assert depth is not None
        assert depth.dtype == np.float32
        assert depth[7, 9] == np.float32(1 + 0.2 * i)
    assert sequence.poses is not None
    assert np.array_equal(sequence.poses.times, sequence.frames.times)
    # between poses every 10 ms, whose times have four decimals
    assert np.allclose(sequence.poses.positions[:, 0], np.arange(FRAMES) / 30, atol=1.1e-4)


@pytest.mark.parametrize(("name", "fx"), [("freiburg2_desk", 520.908620), ("freiburg3_sitting", 535.4)])
def test_camera_by_the_name_of_the_folder(tmp_path: Path, name: str, fx: float) -> None:
    (sequence,) = open_tum(write_sequence(tmp_path / f"rgbd_dataset_{name}")).sequences
    assert sequence.camera.fx == fx
    assert bool(sequence.camera.distortion) == ("freiburg2" in name)
    assert sequence.problems == ()


def test_unknown_camera_is_the_default_of_ros(tmp_path: Path) -> None:
    (sequence,) = open_tum(write_sequence(tmp_path / "mine")).sequences
    assert (sequence.camera.fx, sequence.camera.cx) == (525.0, 319.5)
    assert "mine: the name has no freiburg1" in sequence.problems[0]


def test_resized_images_scale_the_camera_and_say_so(root: Path) -> None:
    for file in (root / "rgbd_dataset_freiburg1_xyz" / "rgb").iterdir():
        cv2.imwrite(str(file), picture(1, 320, 240))
    (sequence,) = open_tum(root).sequences
    assert (sequence.camera.width, sequence.camera.fx) == (320, 517.306408 / 2)
    assert "was scaled to the 320x240 frames" in sequence.notes[0]
    with pytest.raises(TrianflowError, match=r"depth.*640x480, but the images are 320x240"):
        sequence.depth(0)


def test_the_first_image_alone_does_not_set_the_size(root: Path) -> None:
    first = min((root / "rgbd_dataset_freiburg1_xyz" / "rgb").iterdir())
    cv2.imwrite(str(first), picture(0, 100, 100))
    (sequence,) = open_tum(root).sequences
    assert (sequence.camera.width, sequence.problems) == (640, ())
    assert [f.problem for f in sequence.frames][:2] == ["size 100x100 differs from 640x480", ""]


def test_no_image_can_be_read(root: Path) -> None:
    for file in (root / "rgbd_dataset_freiburg1_xyz" / "rgb").iterdir():
        file.write_bytes(b"")
    with pytest.raises(TrianflowError, match=r"not one of 6 images can be read, the first is .*; unpack or download"):
        open_tum(root)


def test_it_pickles(root: Path) -> None:
    sequence = pickle.loads(pickle.dumps(open_tum(root).sequences[0]))
    assert next(sequence.frames.select([3])).image[0, 0, 0] == 35
    assert sequence.depth(3)[0, 0] == np.float32(1.6)


def test_planted_faults(root: Path) -> None:
    folder = root / "rgbd_dataset_freiburg1_xyz"
    rgb, depth = sorted((folder / "rgb").iterdir()), sorted((folder / "depth").iterdir())
    rgb[1].unlink()
    rgb[2].write_bytes(rgb[2].read_bytes()[:100])
    cv2.imwrite(str(rgb[3]), picture(3, 320, 240))
    cv2.imwrite(str(folder / "rgb" / "9.png"), picture(9))
    depth[4].write_bytes(depth[4].read_bytes()[:100])
    write_sequence(root / "rgbd_dataset_freiburg2_rpy" / "rgbd_dataset_freiburg2_rpy")
    (root / "rgbd_dataset_freiburg3_office.tgz").write_bytes(b"\x1f\x8b")
    broken = write_sequence(root / "rgbd_dataset_freiburg3_no_list")
    (broken / "rgb.txt").unlink()
    found = open_tum(root)
    assert [s.name for s in found.sequences] == [
        "rgbd_dataset_freiburg1_xyz",
        "rgbd_dataset_freiburg2_rpy/rgbd_dataset_freiburg2_rpy",
    ]
    assert found.sequences[1].problems == ()
    assert len(found.problems) == 2
    assert "rgbd_dataset_freiburg3_office.tgz: an archive that is not unpacked; unpack it" in found.problems[0]
    assert "rgb.txt: No such file" in found.problems[1]
    sequence = found.sequences[0]
    assert any(str(rgb[1]) in p and "unpack or download" in p for p in sequence.problems)
    assert any("rgb: left out 9.png: not in rgb.txt; remove" in note for note in sequence.notes)
    frames = list(sequence.frames)
    assert [f.image is None for f in frames] == [False, True, True, True, False, False]
    assert "No such file" in frames[1].problem
    assert "truncated PNG" in frames[2].problem
    assert frames[3].problem == "size 320x240 differs from 640x480"
    with pytest.raises(TrianflowError, match=rf"{depth[4].name}: truncated PNG .*; unpack or download the file again"):
        sequence.depth(4)
    assert sequence.depth(5) is not None


def test_unsynchronised_depth(tmp_path: Path) -> None:
    (sequence,) = open_tum(write_sequence(tmp_path / "rgbd_dataset_freiburg1_late", depth_offset=100)).sequences
    assert sequence.depth(0) is None
    assert "depth.txt: no time within 0.02 s of one in rgb.txt" in sequence.problems[0]


def test_a_frame_without_depth_or_pose(root: Path) -> None:
    folder = root / "rgbd_dataset_freiburg1_xyz"
    rows = (folder / "depth.txt").read_text().splitlines()
    (folder / "depth.txt").write_text("\n".join(rows[:4] + rows[5:]) + "\n")
    rows = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(rows[:21]) + "\n")
    (sequence,) = open_tum(root).sequences
    assert [sequence.depth(i) is None for i in range(FRAMES)] == [False, True, False, False, False, False]
    assert sequence.poses is not None
    assert sequence.poses.times.tolist() == sequence.frames.times[:3]
    assert sequence.problems == (), "motion capture and depth have gaps"
    assert "of 1 of 6 images, the first at 1305031102.208637" in sequence.notes[0]
    assert "groundtruth.txt: no pose for 3 of 6 images" in sequence.notes[1]


def test_without_truth(root: Path) -> None:
    folder = root / "rgbd_dataset_freiburg1_xyz"
    (folder / "groundtruth.txt").write_text("1 2 3\n2 2 3\n")
    (folder / "depth.txt").unlink()
    (sequence,) = open_tum(root).sequences
    assert sequence.poses is None
    assert sequence.depth(0) is None
    assert "depth.txt: No such file" in sequence.problems[0]
    assert "groundtruth.txt:1: 3 columns" in sequence.problems[1]


def test_the_poses_of_validation_sequences_are_not_published(tmp_path: Path) -> None:
    for name in ("rgbd_dataset_freiburg1_desk", "rgbd_dataset_freiburg1_desk_validation"):
        (write_sequence(tmp_path / name) / "groundtruth.txt").unlink()
    usual, validation = open_tum(tmp_path).sequences
    assert "groundtruth.txt: missing; unpack it again" in usual.problems[0]
    assert validation.problems == ()
    assert "groundtruth.txt: not published" in validation.notes[0]


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="no such folder"):
        open_tum(tmp_path / "absent")
    with pytest.raises(TrianflowError, match=r"expected folders rgbd_dataset_freiburg\*"):
        open_tum(tmp_path)
    archive = tmp_path / "rgbd_dataset_freiburg1_xyz.tgz"
    archive.write_bytes(b"\x1f\x8b")
    with pytest.raises(TrianflowError, match="not unpacked"):
        open_tum(tmp_path)
    with pytest.raises(TrianflowError, match="a file; unpack it"):
        open_tum(archive)


@pytest.mark.data
def test_real_images_and_motion_capture(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tum_fr1_rpy_200-239"
    folder = tmp_path / "rgbd_dataset_freiburg1_rpy"
    for name in ("images", "depth"):
        shutil.copytree(source / name, folder / ("rgb" if name == "images" else name))
    times = [float(t) for t in (source / "times.txt").read_text().split()]
    for name in ("rgb", "depth"):
        rows = [f"{t:.6f} {name}/{i:06d}.png" for i, t in enumerate(times)]
        (folder / f"{name}.txt").write_text("# timestamp filename\n" + "\n".join(rows) + "\n")
    shutil.copy(source / "groundtruth.txt", folder)
    (sequence,) = open_tum(folder).sequences
    assert sequence.problems == ()
    assert sequence.poses is not None
    assert len(sequence) == len(sequence.poses) == 40
    measured = Trajectory.load(source / "groundtruth.txt")
    nearest = [np.abs(measured.times - t).argmin() for t in times]
    assert np.abs(sequence.poses.positions - measured.positions[nearest]).max() < 5e-3
    depth = sequence.depth(20)
    assert depth is not None
    assert 0.4 < np.median(depth[depth > 0]) < 5
