"""The reader of a plain folder of scenes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.scenes_folder import open_scenes_folder
from trianflow.data.prepared import PrepareSettings, prepare_sequences
from trianflow.errors import TrianflowError


def write_scene(folder: Path, images: str = "", frames: int = 12) -> Path:
    (folder / images).mkdir(parents=True)
    (folder / "depth").mkdir()
    for i in range(frames):
        cv2.imwrite(str(folder / images / f"{i}.png"), np.full((60, 80, 3), 5 * i, np.uint8))
        cv2.imwrite(str(folder / "depth" / f"{i}.png"), np.full((60, 80), 1000 + i, np.uint16))
    np.savetxt(folder / "cam.txt", np.array([[70.0, 0, 40.5], [0, 71.0, 30.5], [0, 0, 1]]))
    rows = [" ".join(map(str, [1, 0, 0, i, 0, 1, 0, 0, 0, 0, 1, -i])) for i in range(frames)]
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_scenes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene_10")
    write_scene(tmp_path / "scene_2", "images")
    found = open_scenes_folder(tmp_path, depth_scale=1000)
    assert found.problems == ()
    assert [(s.name, len(s), s.problems) for s in found.sequences] == [("scene_2", 12, ()), ("scene_10", 12, ())]
    for sequence in found.sequences:
        assert [f.image[0, 0, 0] for f in sequence.frames] == [5 * i for i in range(12)]  # 2 comes before 10
        camera = sequence.camera
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == (70, 71, 40.5, 30.5)
        assert (camera.width, camera.height) == (80, 60)
        assert sequence.poses is not None
        assert sequence.poses.times.tolist() == sequence.frames.times
        assert sequence.poses.positions[7].tolist() == [7, 0, -7]
        depth = sequence.depth(11)
        assert depth is not None
        assert depth[3, 4] == np.float32(1.011)


def test_one_scene_alone_and_a_camera_for_all(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "here")
    (sequence,) = open_scenes_folder(folder, depth_scale=1000).sequences
    assert sequence.name == "here"
    (folder / "cam.txt").rename(tmp_path / "cam.txt")
    (sequence,) = open_scenes_folder(tmp_path, depth_scale=1000).sequences
    assert (sequence.name, sequence.camera.fx, sequence.problems) == ("here", 70, ())


def test_timed_poses_are_interpolated(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene")
    (folder / "poses.txt").unlink()
    (folder / "times.txt").write_text("".join(f"{100.013 + 0.1 * i:.6f}\n" for i in range(12)))
    times = 100 + np.arange(100) / 100
    (folder / "groundtruth.txt").write_text("".join(f"{t:.4f} {t - 100:.4f} 0 0 0 0 0 1\n" for t in times))
    (sequence,) = open_scenes_folder(tmp_path, depth_scale=1000).sequences
    assert sequence.poses is not None
    assert np.allclose(sequence.poses.positions[:, 0], 0.013 + 0.1 * np.arange(10), atol=1e-6)
    assert sequence.problems == ()
    assert "groundtruth.txt: no pose for 2 of 12 images" in sequence.notes[0]


def test_prepared_data_is_such_a_folder(tmp_path: Path) -> None:
    rows = np.indices((60, 80))[0]
    for i in range(3):
        folder = write_scene(tmp_path / "source" / "train" / "city" / f"snippet_{i}", frames=4)
        for n in range(4):
            cv2.imwrite(str(folder / f"{n}.png"), ((rows + 7 * n) * 37 % 251).astype(np.uint8))
    source = open_scenes_folder(tmp_path / "source", depth_scale=1000)
    assert len(source.sequences) == 3
    prepare_sequences(source.sequences, tmp_path / "out", PrepareSettings(size=(40, 30), min_motion=0))
    for before, after in zip(source.sequences, open_scenes_folder(tmp_path / "out").sequences):
        assert (after.name, len(after), after.problems) == (before.name, 4, ())
        assert after.camera.fx == before.camera.fx / 2
        assert after.poses is not None
        assert before.poses is not None
        assert np.allclose(after.poses.T_wc, before.poses.T_wc)
        depth = after.depth(3)
        assert depth is not None
        assert depth[5, 5] == pytest.approx(1.003, abs=1 / 256)


def test_depth_scale_of_the_calibration(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene")
    (sequence,) = open_scenes_folder(tmp_path).sequences
    assert sequence.depth(0) is None
    assert "--depth-scale" in sequence.problems[0]
    (folder / "cam.txt").unlink()
    (folder / "calib.yaml").write_text("{fx: 70, fy: 71, cx: 40, cy: 30, width: 80, height: 60, depth_scale: 500}")
    (sequence,) = open_scenes_folder(tmp_path).sequences
    assert sequence.problems == ()
    depth = sequence.depth(0)
    assert depth is not None
    assert depth[0, 0] == 2.0


def test_an_image_and_another_depth_are_lost(tmp_path: Path) -> None:
    """There are as many of both: the order would give the frames in between the depth of others."""
    folder = write_scene(tmp_path / "scene")
    (folder / "3.png").unlink()
    (folder / "depth" / "7.png").unlink()
    (sequence,) = open_scenes_folder(tmp_path, depth_scale=1000).sequences
    kept = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    depths = [sequence.depth(i) for i in range(11)]
    found = [None if depth is None else float(depth[0, 0]) for depth in depths]
    assert found == [None if n == 7 else pytest.approx(1 + n / 1000) for n in kept]
    assert "depth for 10 of 11 images; none for 7.png; put the missing files there" in "\n".join(sequence.problems)


def test_planted_faults(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "set" / "a")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:40])
    cv2.imwrite(str(folder / "2.png"), np.zeros((10, 10, 3), np.uint8))
    (folder / "3.png").write_bytes(b"")
    (folder / "notes.doc").write_bytes(b"x")
    (folder / "depth" / "4.png").write_bytes(b"")
    cv2.imwrite(str(folder / "depth" / "5.png"), np.ones((10, 10), np.uint16))
    (folder / "depth" / "6.png").unlink()
    rows = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(rows[:5]) + "\n")
    (write_scene(tmp_path / "set" / "b") / "cam.txt").unlink()
    (write_scene(tmp_path / "set" / "c") / "cam.txt").write_text("1 2\n3 4\n")
    (write_scene(tmp_path / "set" / "d") / "poses.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "set" / "e").mkdir()
    (tmp_path / "set" / "e" / "cam.txt").write_text("70 0 40\n0 70 30\n0 0 1\n")
    (tmp_path / "set" / "f.zip").write_bytes(b"PK")
    found = open_scenes_folder(tmp_path, depth_scale=1000)
    assert [s.name for s in found.sequences] == ["set/a", "set/d"]
    text = "\n".join(found.problems)
    assert f"{tmp_path / 'set' / 'b'}: no cam.txt; write the camera matrix" in text
    assert f"{tmp_path / 'set' / 'c' / 'cam.txt'}: " in text
    assert f"{tmp_path / 'set' / 'e'}: no images in this folder" in text
    assert "f.zip: an archive that is not unpacked" in text
    sequence = found.sequences[0]
    frames = list(sequence.frames)
    assert [f.image is None for f in frames[:5]] == [False, True, True, True, False]
    assert frames[2].problem == "size 10x10 differs from 80x60"
    text = "\n".join(sequence.problems)
    assert "3.png: missing or empty" in text
    assert "poses.txt: 5 poses for 12 images; write one row for every image; the scene is used without poses" in text
    assert "depth for 11 of 12 images; none for 6.png; put the missing files there" in text
    (stray,) = sequence.notes
    assert "left out notes.doc: no images; remove" in stray
    assert sequence.poses is None
    assert sequence.depth(6) is None
    for index, reason in ((4, "the file is empty"), (5, "10x10, but the images are 80x60")):
        with pytest.raises(TrianflowError, match=reason):
            sequence.depth(index)
    broken = found.sequences[1]
    assert broken.poses is None
    assert "poses.txt:1: 3 columns" in broken.problems[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0\n0.1\n", "it has 2 times for 12 images"),
        ("noon\n" * 12, "could not convert string to float: 'noon'"),
        ("".join(f"{(5 * i) % 12}\n" for i in range(12)), "its times do not rise"),
    ],
)
def test_times_of_no_use(tmp_path: Path, text: str, reason: str) -> None:
    folder = write_scene(tmp_path / "scene")
    (folder / "times.txt").write_text(text)
    (sequence,) = open_scenes_folder(tmp_path, depth_scale=1000).sequences
    assert sequence.frames.times == pytest.approx([i / 10 for i in range(12)])
    assert sequence.problems == (
        f"{folder / 'times.txt'} is not used: {reason}; times come from the frame rate; write one time in seconds for"
        " every image into it, rising",
    )


def test_a_camera_of_another_size(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene")
    (folder / "cam.txt").write_text("700 0 400\n0 700 300\n0 0 1\n")
    with pytest.raises(TrianflowError, match=r"cam\.txt: the principal point .* lies outside"):
        open_scenes_folder(tmp_path)


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected a folder a scene with cam\.txt"):
        open_scenes_folder(tmp_path)


@pytest.mark.data
def test_real_folders(shared_data: Path) -> None:
    names = ("tum_fr1_desk_9frames", "sevenscenes_400-599", "euroc_v101_static_12", "kitti_odom_07_000-159")
    for name, frames in zip(names, (9, 200, 12, 160)):
        (sequence,) = open_scenes_folder(shared_data / name).sequences
        assert (sequence.name, len(sequence), sequence.problems) == (name, frames, ())
        assert sequence.poses is not None
        assert len(sequence.poses) == frames
        assert next(iter(sequence.frames)).image is not None
        depth = sequence.depth(3)
        assert (depth is not None) == (name[:4] in ("tum_", "seve"))
