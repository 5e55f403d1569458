"""KITTI's segment errors: by their definition, known values, lengths for short paths, what is refused."""

import numpy as np
import pytest

from tests.evaluation.trajectories import drive, naive_segments, noisy
from trianflow.errors import UsageError
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.segments import fitting_lengths, kitti_segment_errors
from trianflow.trajectory import Trajectory


def test_segments_agree_with_the_definition() -> None:
    gt = drive(300, step=1.037, seed=1)  # a step that no length is a multiple of: no ties
    est = noisy(gt, seed=2)
    found = kitti_segment_errors(gt.T_wc, est.T_wc, [30, 70.5, 1000], 7)
    expected = np.array(naive_segments(gt.T_wc, est.T_wc, [30, 70.5, 1000], 7))
    assert np.stack([found.first, found.last, found.length], 1) == pytest.approx(expected[:, :3])
    assert found.translation == pytest.approx(expected[:, 3], rel=1e-9)
    assert found.rotation == pytest.approx(expected[:, 4], rel=1e-6)
    by_length = found.per_length()
    assert [e.length for e in by_length] == [30, 70.5, 1000]
    assert (by_length[2].t_err, by_length[2].r_err, by_length[2].segments) == (None, None, 0)
    of = expected[:, 2] == 30
    assert by_length[0].t_err == pytest.approx(100 * expected[of, 3].mean())
    assert by_length[0].segments == of.sum()


def test_a_scale_error_of_two_percent() -> None:
    gt = drive(1000, step=0.125)  # exact in binary: a segment of 50 m ends after 401 steps of 0.125 m
    T_wc = gt.T_wc.copy()
    T_wc[:, :3, 3] *= 1.02
    est = Trajectory(gt.times, T_wc)
    exact = 2 * 401 * 0.125 / 50
    for alignment in ("none", "se3"):
        m = evaluate_odometry(gt, est, alignment, [50], with_evo=False)
        assert m.t_err == pytest.approx(exact, rel=1e-9)
        assert m.r_err == pytest.approx(0, abs=1e-5)
        assert m.scale == 1
    for alignment in ("scale", "sim3"):
        m = evaluate_odometry(gt, est, alignment, [50], with_evo=False)
        assert m.t_err == pytest.approx(0, abs=1e-6)
        assert m.scale == pytest.approx(1 / 1.02)


def test_a_constant_yaw_drift() -> None:
    gt, est = drive(600), drive(600, yaw=0.01)
    m = evaluate_odometry(gt, est, "none", [100, 200], with_evo=False)
    # 101 (201) steps of a hundredth of a degree, over 100 (200) m
    counts = [e.segments for e in m.per_length]
    expected = (counts[0] * 1.01 + counts[1] * 1.005) / sum(counts)
    assert counts == [50, 40]
    assert m.r_err == pytest.approx(expected, rel=1e-6)
    assert m.per_length[0].r_err == pytest.approx(1.01, rel=1e-6)
    # a drive on a circle of radius 1 m / yaw, against a straight one
    chord = (
        101 - np.sin(np.deg2rad(1.01)) / np.deg2rad(0.01),
        (1 - np.cos(np.deg2rad(1.01))) / np.deg2rad(0.01),
    )
    assert m.per_length[0].t_err == pytest.approx(np.hypot(*chord), rel=1e-2)
    assert m.pair_rotation_median == pytest.approx(0.01, rel=1e-6)


def test_segments_need_an_estimate_at_both_ends() -> None:
    gt = drive(100)
    valid = np.ones(101, dtype=bool)
    valid[[10, 41]] = False
    est = gt.T_wc.copy()
    est[~valid] = np.nan
    found = kitti_segment_errors(gt.T_wc, est, [20], 10, valid)
    assert found.first.tolist() == [0, 30, 40, 50, 60, 70]  # 10 has no start, 20 no end
    assert found.t_err == pytest.approx(0, abs=1e-9)


def test_bad_segments_are_refused() -> None:
    T_wc = drive(10).T_wc
    for lengths in ([], [0], [-1], [np.nan], [np.inf]):
        with pytest.raises(UsageError, match="segment lengths must be positive"):
            kitti_segment_errors(T_wc, T_wc, lengths)
    with pytest.raises(UsageError, match="at least one frame"):
        kitti_segment_errors(T_wc, T_wc, [1], 0)
    with pytest.raises(ValueError, match="expected two"):
        kitti_segment_errors(T_wc, T_wc[:-1])


@pytest.mark.parametrize("path", [0.013, 0.85, 8.5, 16.9, 17.0, 42.49, 42.5, 84.9, 91.2, 99.99, 431.0])
def test_lengths_that_fit_a_short_path(path: float) -> None:
    lengths = fitting_lengths(path)
    unit = lengths[0]
    assert lengths == pytest.approx(unit * np.arange(1, 9))
    assert path / 22 < unit < path / 8.5 * 1.0001
    assert f"{unit:e}"[0] in "125"
    gt = drive(200, step=path / 200)
    found = kitti_segment_errors(gt.T_wc, gt.T_wc, lengths)
    assert set(found.length) == set(lengths), "each length has a segment"


def test_no_path_has_no_lengths() -> None:
    assert fitting_lengths(0.0) == ()
    assert fitting_lengths(float("nan")) == ()
