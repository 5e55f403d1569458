"""Trajectory files: what is written is read back, and what cannot be read is named."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.errors import TrianflowError, UsageError
from trianflow.trajectory import Trajectory, TrajectoryWriter

IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"
STILL = "0 0 0 0 0 0 1"


def random_trajectory(n: int = 50, seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    T_wc = np.tile(np.eye(4), (n, 1, 1))
    T_wc[:, :3, :3] = Rotation.random(n, random_state=seed).as_matrix()
    T_wc[:, :3, 3] = rng.uniform(-1e4, 1e4, (n, 3))
    return Trajectory(1305031235.703012 + np.arange(n) * 0.033351, T_wc)


def written(tmp_path: Path, text: str, name: str = "trajectory.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="expected times"):
        Trajectory(np.zeros(3), np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(ValueError, match="expected times"):
        Trajectory(np.zeros(2), np.zeros((2, 3, 4)))


def test_path_length_and_distances() -> None:
    T_wc = np.tile(np.eye(4), (4, 1, 1))
    T_wc[:, :3, 3] = [[0, 0, 0], [3, 4, 0], [3, 4, 12], [3, 4, 12]]
    trajectory = Trajectory(np.arange(4.0), T_wc)
    assert len(trajectory) == 4
    assert trajectory.path_length == pytest.approx(17)
    assert trajectory.distances == pytest.approx([0, 5, 17, 17])
    empty = Trajectory(np.zeros(0), np.zeros((0, 4, 4)))
    assert (len(empty), empty.path_length, len(empty.distances)) == (0, 0.0, 0)


def test_relative_to_first_keeps_the_motion() -> None:
    trajectory = random_trajectory(5)
    moved = trajectory.relative_to_first()
    assert np.array_equal(moved.T_wc[0], np.eye(4))
    step, step_moved = (np.linalg.inv(t.T_wc[2]) @ t.T_wc[3] for t in (trajectory, moved))
    assert step_moved == pytest.approx(step, abs=1e-9)
    # the second camera as the first one sees it
    seen = trajectory.T_wc[0, :3, :3].T @ (trajectory.T_wc[1, :3, 3] - trajectory.T_wc[0, :3, 3])
    assert moved.T_wc[1, :3, 3] == pytest.approx(seen, abs=1e-9)


@pytest.mark.parametrize("name", ["out.tum", "out.txt"])
def test_tum_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    trajectory = random_trajectory()
    trajectory.save(tmp_path / name)
    read = Trajectory.load(tmp_path / name)
    assert np.array_equal(read.times, trajectory.times)
    assert np.abs(read.T_wc - trajectory.T_wc).max() < 1e-9


def test_tum_is_camera_to_world_with_the_scalar_last(tmp_path: Path) -> None:
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)  # half of 60 degrees about y
    path = written(tmp_path, f"# t x y z qx qy qz qw\n\n1.5 1 2 3 0 {s} 0 {c}\n")
    read = Trajectory.load(path)
    cos, sin = np.cos(np.pi / 3), np.sin(np.pi / 3)
    assert read.T_wc[0] == pytest.approx(
        np.array([[cos, 0, sin, 1], [0, 1, 0, 2], [-sin, 0, cos, 3], [0, 0, 0, 1]])
    )
    assert read.times.tolist() == [1.5]


def test_kitti_round_trip_and_times(tmp_path: Path) -> None:
    trajectory = random_trajectory(7)
    trajectory.save(tmp_path / "out.kitti")
    read = Trajectory.load(tmp_path / "out.kitti")
    assert read.times.tolist() == list(range(7))
    assert np.abs(read.T_wc - trajectory.T_wc).max() < 1e-9
    trajectory.save(tmp_path / "out.txt", format="kitti")
    assert len((tmp_path / "out.txt").read_text().split("\n")[0].split()) == 12
    assert np.array_equal(Trajectory.load(tmp_path / "out.txt").T_wc, read.T_wc)


def test_kitti_with_frame_indices(tmp_path: Path) -> None:
    path = written(tmp_path, f"2 {IDENTITY}\n3 {IDENTITY}\n7.0 {IDENTITY}\n")
    read = Trajectory.load(path)
    assert read.times.tolist() == [2, 3, 7]
    read.save(tmp_path / "again.kitti")
    assert Trajectory.load(tmp_path / "again.kitti").times.tolist() == [2, 3, 7]


def test_colmap_is_world_to_camera_with_the_scalar_first(tmp_path: Path) -> None:
    trajectory = random_trajectory(6)
    trajectory = Trajectory(np.array([0.0, 1, 2, 5, 6, 9]), trajectory.T_wc, times_are_indices=True)
    trajectory.save(tmp_path / "images.txt")
    read = Trajectory.load(tmp_path / "images.txt")
    assert np.array_equal(read.times, trajectory.times)
    assert np.abs(read.T_wc - trajectory.T_wc).max() < 1e-8
    # two images in another order, the first with points: a quarter turn about z, t = (1, 0, 0)
    h = np.sqrt(0.5)
    text = f"# header\n4 1 0 0 0 0 0 2 1 b.png\n1.0 2.0 -1 3.0 4.0 7\n9 {h} 0 0 {h} 1 0 0 1 a.png\n\n"
    read = Trajectory.load(written(tmp_path, text, "images.txt"))
    assert read.times.tolist() == [0, 1]
    assert read.T_wc[0, :3, :3] == pytest.approx(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), abs=1e-12)
    assert read.positions == pytest.approx(np.array([[0, 1, 0], [0, 0, -2.0]]), abs=1e-12)


def test_the_format_of_a_file_says_what_its_times_are(tmp_path: Path) -> None:
    """Not their values: a truth stamped in whole seconds has time stamps."""
    seconds = Trajectory(np.arange(6.0), random_trajectory(6).T_wc)
    for kind, numbered in (("tum", False), ("kitti", True), ("colmap", True)):
        seconds.save(tmp_path / f"x.{kind}")
        read = Trajectory.load(tmp_path / f"x.{kind}")
        assert read.times.tolist() == list(range(6))
        assert read.times_are_indices == read.relative_to_first().times_are_indices == numbered


def test_ply_holds_the_path(tmp_path: Path) -> None:
    trajectory = random_trajectory(3)
    trajectory.save(tmp_path / "path.ply")
    head, body = (tmp_path / "path.ply").read_text().split("end_header\n")
    assert "element vertex 3" in head
    assert "element edge 2" in head
    rows = body.splitlines()
    assert np.array([r.split() for r in rows[:3]], dtype=float) == pytest.approx(
        trajectory.positions, abs=1e-9
    )
    assert rows[3:] == ["0 1", "1 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("1 2 3\n", ":1: 3 columns"),
        (f"0 {STILL}\n1 0 0 0 0 0 1\n2 {STILL}\n", ":2: 7 columns where 8"),
        (f"# head\n0 {STILL}\n1 0 nan 0 0 0 0 1\n", ":3: .*not finite"),
        (f"0 {STILL}\n1 0 x 0 0 0 0 1\n", ":2: not a row of numbers"),
        (f"0 {STILL}\n1 0 0 0 0 0 0 0\n", ":2: not a unit quaternion"),
        (f"5 {STILL}\n4 {STILL}\n", ":2: time goes back from 5 to 4"),
        (f"{IDENTITY}\n2 0 0 0 0 1 0 0 0 0 1 0\n", ":2: not a rotation"),
        (f"{IDENTITY}\n1 0 0 0 0 1 0 0 0 0 -1 0\n", ":2: not a rotation .*det -1"),
        (f"{IDENTITY}\n0 {IDENTITY}\n", ":2: 13 columns where 12"),
        (f"0.5 {IDENTITY}\n", ":1: the first of 13 columns is a frame index"),
        (f"3 {IDENTITY}\n3 {IDENTITY}\n", ":2: time goes back"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TrianflowError, match=message) as e:
        Trajectory.load(path)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def test_unreadable_files_and_formats(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"nothing\.tum: cannot read"):
        Trajectory.load(tmp_path / "nothing.tum")
    with pytest.raises(TrianflowError, match="cannot read"):
        Trajectory.load(tmp_path)
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(TrianflowError, match="not a text file"):
        Trajectory.load(tmp_path / "image.txt")
    with pytest.raises(UsageError, match="'bag' is not one of"):
        Trajectory.load(tmp_path / "x.txt", format="bag")
    with pytest.raises(UsageError, match="unknown trajectory format"):
        random_trajectory(2).save(tmp_path / "x.dat")
    with pytest.raises(TrianflowError, match="cannot write"):
        random_trajectory(2).save(tmp_path / "no" / "x.tum")
    with pytest.raises(TrianflowError, match=r":1: 12 columns where 8 were expected \(tum\)"):
        Trajectory.load(written(tmp_path, f"{IDENTITY}\n", "x.tum"))


@pytest.mark.parametrize("kind", ["tum", "kitti"])
def test_an_unfinished_last_line_is_dropped(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    random_trajectory(4).save(path)
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        n = len(Trajectory.load(path))
        # an unfinished number that still makes a pose cannot be told from a whole one
        assert n == 3 or whole[start:cut].count(b" ") == (7 if kind == "tum" else 11)
    path.write_bytes(whole[:-1])
    assert len(Trajectory.load(path)) == 4  # only the newline is missing


@pytest.mark.parametrize("kind", ["tum", "kitti"])
def test_writer_writes_what_save_writes(tmp_path: Path, kind: str) -> None:
    trajectory = random_trajectory(5)
    with TrajectoryWriter(tmp_path / "a.txt", kind) as writer:
        for i, (time, T_wc) in enumerate(zip(trajectory.times, trajectory.T_wc)):
            writer.write(time, T_wc)
            assert len(Trajectory.load(tmp_path / "a.txt")) == i + 1  # flushed
    trajectory.save(tmp_path / "b.txt", kind)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_writer_refuses_bad_places_and_poses(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="cannot write the trajectory"):
        TrajectoryWriter(tmp_path / "no" / "x.tum")
    with pytest.raises(UsageError, match="not one of tum, kitti"):
        TrajectoryWriter(tmp_path / "x.ply")
    with TrajectoryWriter(tmp_path / "x.tum") as writer, pytest.raises(ValueError, match="not a finite pose"):
        writer.write(0.0, np.full((4, 4), np.nan))
    writer.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(TrianflowError, match="cannot write the trajectory: No space left"):
        TrajectoryWriter("/dev/full", "tum")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_run_leaves_a_readable_file(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np\n"
        "from trianflow.trajectory import TrajectoryWriter\n"
        "writer = TrajectoryWriter(sys.argv[1])\n"
        "for i in range(7): writer.write(i * 0.1, np.eye(4))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "killed.tum"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=False, env=os.environ | {"PYTHONPATH": "."}
    )
    assert done.returncode == -signal.SIGKILL
    assert Trajectory.load(path).times == pytest.approx(np.arange(7) * 0.1)


def test_import_is_light() -> None:
    code = "import sys, trianflow.trajectory; print({'matplotlib', 'evo'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


@pytest.mark.data
def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "reference_trajectories"
    gt = Trajectory.load(folder / "gt" / "09.txt")
    assert (len(gt), gt.times_are_indices) == (1591, True)
    assert gt.path_length == pytest.approx(1705.05, abs=0.01)
    indexed = Trajectory.load(folder / "kitti_odom_eval_example_0" / "10.txt")
    assert (len(indexed), indexed.times[0], indexed.times[-1]) == (1197, 4, 1200)
    tum = Trajectory.load(shared_data / "tum_fr1_rpy_200-239" / "groundtruth.txt")
    assert tum.times[0] == 1305031235.7030
    assert not tum.times_are_indices
