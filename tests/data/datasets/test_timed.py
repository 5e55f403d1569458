"""Association by time, poses between measured poses, listings of files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from trianflow.data.datasets.timed import associate, poses_at, poses_of_images, read_listing, rising
from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory


def test_rising_is_the_longest_of_all_choices() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        values = random.integers(0, 9, random.integers(0, 9)).astype(np.float64)
        values[random.random(len(values)) < 0.1] = np.nan
        best = 0
        for choice in itertools.product((False, True), repeat=len(values)):
            chosen = values[np.array(choice, bool)]
            if np.isfinite(chosen).all() and (np.diff(chosen) > 0).all():
                best = max(best, len(chosen))
        found = rising(values)
        assert len(found) == best
        assert (np.diff(found) > 0).all()
        assert (np.diff(values[found]) > 0).all()


def test_of_two_values_that_exclude_each_other_the_earlier_stays() -> None:
    assert rising(np.array([0.0, 0.3, 0.2, 0.5])).tolist() == [0, 1, 3]
    assert rising(np.array([np.inf, 1.0, 1.0, -np.inf])).tolist() == [1]


def test_association_is_that_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        a = np.sort(random.uniform(0, 1, 30))
        b = np.sort(random.uniform(0, 1, 25))
        pairs = sorted((abs(s - t), i, j) for i, s in enumerate(a) for j, t in enumerate(b) if abs(s - t) < 0.02)
        expected: dict[int, int] = {}
        for _, i, j in pairs:
            if i not in expected and j not in expected.values():
                expected[i] = j
        assert associate(a, b, 0.02) == dict(sorted(expected.items()))


def test_association_of_clocks_apart_is_empty() -> None:
    assert associate(np.arange(3.0), np.arange(3.0) + 0.5, 0.02) == {}
    assert associate(np.zeros(0), np.arange(3.0), 0.02) == {}


def _measured(times: np.ndarray) -> Trajectory:
    T = np.tile(np.eye(4), (len(times), 1, 1))
    T[:, :3, :3] = Rotation.from_euler("xyz", np.stack([np.sin(times), times / 2, 0.3 * times**2], axis=1)).as_matrix()
    T[:, :3, 3] = np.stack([times, times**2, -times], axis=1)
    return Trajectory(times, T)


def test_poses_are_interpolated_as_scipy_does() -> None:
    measured = _measured(np.arange(0, 1.01, 0.05))
    times = np.array([0.0, 0.012, 0.33, 0.5, 0.999, 1.0])
    found = poses_at(measured, times)
    assert found is not None
    assert np.array_equal(found.times, times)
    expected = Slerp(measured.times, Rotation.from_matrix(measured.T_wc[:, :3, :3]))(times).as_matrix()
    assert np.allclose(found.T_wc[:, :3, :3], expected, atol=1e-12)
    for axis in range(3):
        expected = np.interp(times, measured.times, measured.positions[:, axis])
        assert np.allclose(found.positions[:, axis], expected, atol=1e-12)


def test_no_pose_outside_or_across_a_gap() -> None:
    measured = _measured(np.array([0.0, 0.05, 1.0, 1.05]))
    found = poses_at(measured, np.array([-0.1, 0.02, 0.05, 0.5, 1.0, 1.06]))
    assert found is not None
    assert found.times.tolist() == [0.02, 0.05, 1.0]
    assert poses_at(measured, np.array([5.0])) is None


def test_images_without_a_pose_are_counted() -> None:
    measured, file = _measured(np.arange(0, 1.01, 0.05)), Path("truth.txt")
    problems: list[str] = []
    notes: list[str] = []
    poses = poses_of_images(measured, np.array([0.1, 0.9]), file, problems, notes)
    assert poses is not None
    assert (poses.times.tolist(), problems, notes) == ([0.1, 0.9], [], [])
    poses = poses_of_images(measured, np.array([-1.0, 0.1, 0.9]), file, problems, notes)
    assert poses is not None
    assert poses.times.tolist() == [0.1, 0.9]
    assert problems == []
    assert notes == ["truth.txt: no pose for 1 of 3 images, which are used without"]
    poses = poses_of_images(measured, np.array([-1.0, -0.5, 0.1]), file, problems, notes)
    assert poses is not None
    assert poses.times.tolist() == [0.1]
    assert problems == ["truth.txt: no pose for 2 of 3 images, which are used without; download the file again"]
    assert len(notes) == 1
    assert poses_of_images(measured, np.array([5.0]), file, problems, notes) is None
    assert problems[1].startswith("truth.txt: no pose at the time of an image; take")


def test_listing_leaves_out_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "rgb.txt"
    file.write_text("# timestamp filename\n1.0 rgb/a.png\n1.5\n0.5 rgb/b.png\nx rgb/c.png\n2.0 rgb/d.png\n")
    times, names, problems = read_listing(file)
    assert (times.tolist(), names) == ([1.0, 2.0], ["rgb/a.png", "rgb/d.png"])
    assert problems == [
        f"{file}:3: not a time between its neighbours' and a file name (3 such rows are left out);"
        " download the file again"
    ]


def test_listing_without_rows(tmp_path: Path) -> None:
    (tmp_path / "rgb.txt").write_text("# nothing\n")
    with pytest.raises(TrianflowError, match=r"rgb\.txt: no row with a time"):
        read_listing(tmp_path / "rgb.txt")
    with pytest.raises(TrianflowError, match="unpack or download"):
        read_listing(tmp_path / "depth.txt")


def test_a_wrong_time_costs_no_other(tmp_path: Path) -> None:
    file = tmp_path / "rgb.txt"
    file.write_text("1.0 a.png\n90.0 b.png\n3.0 c.png\n4.0 d.png\n")
    times, names, problems = read_listing(file)
    assert (times.tolist(), names) == ([1.0, 3.0, 4.0], ["a.png", "c.png", "d.png"])
    assert f"{file}:2: " in problems[0]
