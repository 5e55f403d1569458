"""The reader of 7-Scenes."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.data.datasets.seven_scenes import open_seven_scenes
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory


def pose(number: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0.1 * number, 0.2, -0.05 * number]).as_matrix()
    T[:3, 3] = number, 0.5, -number
    return T


def write_sequence(folder: Path, numbers: range = range(4)) -> Path:
    folder.mkdir(parents=True)
    for n in numbers:
        cv2.imwrite(str(folder / f"frame-{n:06d}.color.png"), np.full((480, 640, 3), n, np.uint8))
        depth = np.full((480, 640), 1000 + 250 * n, np.uint16)
        depth[0, 0] = 65535
        cv2.imwrite(str(folder / f"frame-{n:06d}.depth.png"), depth)
        rows = ["\t ".join(f"{v: .7e}" for v in row) + "\t " for row in pose(n)]
        (folder / f"frame-{n:06d}.pose.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sequence(tmp_path / "chess" / "seq-01")
    write_sequence(tmp_path / "chess" / "seq-02", range(3, 6))
    (tmp_path / "chess" / "TrainSplit.txt").write_text("sequence1\r\n")
    (tmp_path / "chess" / "TestSplit.txt").write_text("sequence2\r\n")
    (tmp_path / "chess" / "chess.png").write_bytes(b"x")
    return tmp_path


def test_official_layout(root: Path) -> None:
    found = open_seven_scenes(root)
    assert found.problems == ()
    first, second = found.sequences
    assert (first.name, second.name) == ("chess/seq-01", "chess/seq-02")
    assert first.problems == second.problems == ()
    frames = list(second.frames)
    assert [f.image[0, 0, 0] for f in frames] == [3, 4, 5]
    assert [f.time for f in frames] == [0.1, 4 / 30, 5 / 30]
    assert [second.number(f.index) for f in frames] == [3, 4, 5]
    depth = second.depth(1)
    assert depth is not None
    assert (depth[0, 0], depth[7, 3]) == (0, 2.0)
    assert second.poses is not None
    assert second.poses.times.tolist() == second.frames.times
    assert np.allclose(second.poses.T_wc, [pose(n) for n in (3, 4, 5)], atol=1e-6)
    R = second.poses.T_wc[:, :3, :3]
    assert np.abs(R.transpose(0, 2, 1) @ R - np.eye(3)).max() < 1e-12
    camera = second.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width) == (585, 585, 320, 240, 640)


def test_a_scene_and_a_sequence_can_be_the_root(root: Path) -> None:
    assert [s.name for s in open_seven_scenes(root / "chess").sequences] == ["seq-01", "seq-02"]
    assert [s.name for s in open_seven_scenes(root / "chess" / "seq-02").sequences] == ["seq-02"]


def test_planted_faults(root: Path) -> None:
    folder = root / "chess" / "seq-01"
    (folder / "frame-000001.color.png").unlink()
    truncated = folder / "frame-000002.color.png"
    truncated.write_bytes(truncated.read_bytes()[:100])
    (folder / "frame-000000.depth.png").unlink()
    cv2.imwrite(str(folder / "frame-000002.depth.png"), np.ones((240, 320), np.uint16))
    (folder / "frame-000003.depth.png").write_bytes(b"")
    (folder / "frame-000002.pose.txt").write_text("1 0 0\n")
    (folder / "frame-000003.pose.txt").write_text("2 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    cv2.imwrite(str(root / "chess" / "seq-02" / "frame-000004.color.png"), np.zeros((10, 10, 3), np.uint8))
    (root / "chess" / "seq-03.zip").write_bytes(b"PK")
    (root / "fire").mkdir()
    (root / "fire" / "seq-01").mkdir()
    (root / "fire" / "seq-01" / "frame-000000.depth.png").write_bytes(b"x")
    found = open_seven_scenes(root)
    assert [s.name for s in found.sequences] == ["chess/seq-01", "chess/seq-02"]
    text = "\n".join(found.problems)
    assert f"seq-03.zip: an archive that is not unpacked; unpack it in {root / 'chess'}, or move it away" in text
    assert f"{root / 'fire' / 'seq-01'}: no colour images (frame-*.color.png); unpack the sequence again" in text
    sequence = found.sequences[0]
    frames = list(sequence.frames)
    assert [f.image is None for f in frames] == [False, True, True, False]
    assert "truncated PNG" in frames[2].problem
    text = "\n".join(sequence.problems)
    assert "frame-000001.color.png: missing or empty, but part of" in text
    assert "frame-000000.depth.png: 2 of 4 files" in text
    assert "frame-000002.pose.txt: missing, or not a 4x4 camera pose (2 of 4 frames)" in text
    assert sequence.poses is not None
    assert np.allclose(sequence.poses.times, [0, 1 / 30])
    assert sequence.depth(0) is None
    with pytest.raises(TrianflowError, match=r"frame-000002\.depth\.png: 320x240, but the images are 640x480"):
        sequence.depth(2)
    with pytest.raises(TrianflowError, match=r"frame-000003\.depth\.png: the file is empty"):
        sequence.depth(3)
    assert [f.problem for f in found.sequences[1].frames] == ["", "size 10x10 differs from 640x480", ""]


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected scenes with sequences"):
        open_seven_scenes(tmp_path)
    (tmp_path / "chess.zip").write_bytes(b"PK")
    with pytest.raises(TrianflowError, match=r"chess\.zip: an archive that is not unpacked"):
        open_seven_scenes(tmp_path)


@pytest.mark.data
def test_real_frames(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "sevenscenes_400-599"
    truth = Trajectory.load(source / "poses.txt", "kitti")
    folder = tmp_path / "seq-01"
    folder.mkdir()
    for i in range(12):
        number = 400 + i
        colour = next((source / "images").glob(f"{i:06d}.*"))
        shutil.copy(colour, folder / f"frame-{number:06d}.color{colour.suffix}")
        shutil.copy(source / "depth" / f"{i:06d}.png", folder / f"frame-{number:06d}.depth.png")
        np.savetxt(folder / f"frame-{number:06d}.pose.txt", truth.T_wc[i])
    (sequence,) = open_seven_scenes(folder).sequences
    assert (sequence.problems, len(sequence)) == ((), 12)
    assert all(frame.image is not None for frame in sequence.frames)
    assert sequence.poses is not None
    assert np.allclose(sequence.poses.T_wc, truth.T_wc[:12], atol=1e-3)
    # depth and poses agree: the points of frame 0 lie on the surface of frame 11
    near, far = sequence.depth(0), sequence.depth(11)
    assert near is not None
    assert far is not None
    rows, columns = (i.ravel() for i in np.mgrid[40:440:8, 40:600:8])
    z = near[rows, columns]
    rows, columns, z = rows[z > 0], columns[z > 0], z[z > 0]
    X = np.stack([(columns - 320) / 585 * z, (rows - 240) / 585 * z, z, np.ones_like(z)])
    X = np.linalg.inv(sequence.poses.T_wc[11]) @ sequence.poses.T_wc[0] @ X
    u, v = np.rint(585 * X[0] / X[2] + 320).astype(int), np.rint(585 * X[1] / X[2] + 240).astype(int)
    inside = (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    seen = far[v[inside], u[inside]]
    assert np.median(np.abs(seen - X[2][inside])[seen > 0]) < 0.02
