"""Alignment by a similarity, and which poses belong together: by hand, scipy and evo as references."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.evaluation.trajectories import drive, noisy, transformed
from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import Alignment, Similarity, align_trajectories, associate, fit_similarity
from trianflow.trajectory import Trajectory

# --- alignment ---


@pytest.mark.parametrize("seed", range(5))
def test_umeyama_recovers_a_random_similarity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 10, (40, 3)) + 100
    R, t, scale = Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 50, 3), rng.uniform(0.01, 100)
    fit = fit_similarity(points, scale * points @ R.T + t, "sim3")
    assert fit.status == "ok"
    assert fit.scale == pytest.approx(scale, rel=1e-12)
    assert pytest.approx(R, abs=1e-11) == fit.R
    assert fit.t == pytest.approx(t, abs=1e-8)
    rigid = fit_similarity(points, points @ R.T + t, Alignment.SE3)
    assert rigid.scale == 1
    assert pytest.approx(R, abs=1e-11) == rigid.R


def test_umeyama_by_hand() -> None:
    # a unit square, turned by a quarter about z, doubled and moved
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
    target = np.array([[5, 5, 1], [5, 7, 1], [3, 7, 1], [3, 5, 1]], dtype=float)
    fit = fit_similarity(square, target, "sim3")
    assert fit.scale == pytest.approx(2)
    assert pytest.approx(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), abs=1e-12) == fit.R
    assert fit.t == pytest.approx([5, 5, 1])


def test_umeyama_with_noise_agrees_with_scipy_and_is_a_minimum() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(0, 3, (60, 3))
    target = 1.7 * source @ Rotation.random(random_state=1).as_matrix().T + 4 + rng.normal(0, 0.5, (60, 3))
    fit = fit_similarity(source, target, "sim3")
    expected, _ = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))
    assert pytest.approx(expected.as_matrix(), abs=1e-9) == fit.R

    def cost(scale: float, R: np.ndarray, t: np.ndarray) -> float:
        return float(((scale * source @ R.T + t - target) ** 2).sum())

    best = cost(fit.scale, fit.R, fit.t)
    for scale in (0.999, 1.001):
        assert cost(scale * fit.scale, fit.R, fit.t) > best
    for axis in np.eye(3) * 1e-3:
        assert cost(fit.scale, Rotation.from_rotvec(axis).as_matrix() @ fit.R, fit.t) > best
        assert cost(fit.scale, fit.R, fit.t + axis) > best


def test_a_mirrored_target_still_gives_a_rotation() -> None:
    source = np.random.default_rng(0).normal(size=(30, 3))
    fit = fit_similarity(source, source * [1, 1, -1], "sim3")
    assert np.linalg.det(fit.R) == pytest.approx(1)
    assert fit.scale < 1


def test_scale_only() -> None:
    source = np.random.default_rng(0).normal(size=(30, 3))
    fit = fit_similarity(source, 3 * source, "scale")
    assert (fit.scale, fit.status) == (pytest.approx(3), "ok")
    assert np.array_equal(fit.R, np.eye(3))
    assert not fit.t.any()


@pytest.mark.parametrize("alignment", ["scale", "se3", "sim3"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_degenerate_points_have_a_status_and_no_nan(alignment: str, size: float) -> None:
    line = np.outer(np.arange(10.0), [0, 0, size])
    still = np.zeros((10, 3))
    away = np.random.default_rng(0).normal(0, size, (10, 3))
    cases = {
        "static": [(still, away), (away, still), (still, still), (away[:1] * 0, away[:1])],
        "collinear": [(line, line[:, [2, 0, 1]] * 2)],
        "opposed": [(away, -away)],
    }
    if alignment != "scale":
        del cases["opposed"]
        cases["static"] += [(still + 1e3 * size, away), (away[:1], away[1:2])]
    else:
        del cases["collinear"]
    for status, pairs in cases.items():
        for source, target in pairs:
            fit = fit_similarity(source, target, alignment)
            assert fit.status == status
            assert np.isfinite([fit.scale, *fit.R.ravel(), *fit.t]).all()
            assert pytest.approx(np.eye(3), abs=1e-9) == fit.R @ fit.R.T
            assert fit.scale > 0


def test_a_straight_line_is_aligned_with_the_smallest_turn() -> None:
    line = np.outer(np.arange(10.0), [0, 0, 1])
    fit = fit_similarity(line, 2 * line, "sim3")
    assert (fit.scale, fit.status) == (pytest.approx(2), "collinear")
    assert pytest.approx(np.eye(3), abs=1e-8) == fit.R
    across = fit_similarity(line, line[:, [2, 1, 0]], "se3")
    assert pytest.approx(Rotation.from_euler("y", 90, degrees=True).as_matrix(), abs=1e-8) == across.R


def test_bad_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two \(N, 3\) arrays"):
        fit_similarity(np.zeros((3, 3)), np.zeros((4, 3)), "sim3")
    with pytest.raises(ValueError, match="not finite"):
        fit_similarity(np.full((3, 3), np.nan), np.zeros((3, 3)), "sim3")


def test_apply_scales_positions_and_not_rotations() -> None:
    T_wc = drive(3, yaw=10).T_wc
    R = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    out = Similarity(2.0, R, np.array([1.0, 2, 3])).apply(T_wc)
    assert out[2, :3, 3] == pytest.approx(2 * R @ T_wc[2, :3, 3] + [1, 2, 3])
    assert out[2, :3, :3] == pytest.approx(R @ T_wc[2, :3, :3])
    assert np.array_equal(out[:, 3], T_wc[:, 3])


@pytest.mark.parametrize("alignment", ["se3", "sim3"])
def test_evo_aligns_alike(alignment: str) -> None:
    trajectory = pytest.importorskip("evo.core.trajectory")
    gt = drive(120, seed=8)
    est = transformed(noisy(gt), 0.3 if alignment == "sim3" else 1.0)
    theirs = trajectory.PosePath3D(poses_se3=list(est.T_wc))
    theirs.align(trajectory.PosePath3D(poses_se3=list(gt.T_wc)), correct_scale=alignment == "sim3")
    ours = align_trajectories(gt, est, alignment)
    assert ours.est.T_wc == pytest.approx(np.array(theirs.poses_se3), abs=1e-8)


# --- association ---


def at(times: list[float]) -> Trajectory:
    numbers = all(isinstance(time, int) for time in times)
    return Trajectory(np.array(times), np.tile(np.eye(4), (len(times), 1, 1)), times_are_indices=numbers)


@pytest.mark.parametrize(
    ("gt", "est", "gt_index", "est_index", "how"),
    [
        ([0.5, 1.5, 2.5], [10.1, 20.1, 30.1], [0, 1, 2], [0, 1, 2], "row"),
        ([0, 1, 2], [0.1, 0.2, 0.3], [0, 1, 2], [0, 1, 2], "row"),
        ([0, 1, 2, 3], [1, 3], [1, 3], [0, 1], "frame index"),
        ([0, 1, 2], [1, 2, 3], [1, 2], [0, 1], "frame index"),
        ([0, 1], [0, 1, 2, 3], [0, 1], [0, 1], "frame index"),
        ([0.1, 0.2, 0.3, 0.4], [0.205, 0.39, 9.5], [1, 3], [0, 1], "time stamp"),
        ([0.1, 0.2], [0.095, 0.101, 0.21], [0, 1], [1, 2], "time stamp"),
        ([0.3], [0.1, 0.31], [0], [1], "time stamp"),
        ([0.1, 0.31], [0.3], [1], [0], "time stamp"),
    ],
)
def test_association(gt: list, est: list, gt_index: list, est_index: list, how: str) -> None:
    found = associate(at(gt), at(est))
    assert (found[0].tolist(), found[1].tolist(), found[2]) == (gt_index, est_index, how)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(TrianflowError, match=r"no common time stamp: ground truth 0\.5 to 1\.5, estimate 7\.5"):
        associate(at([0.5, 1.5]), at([7.5]))
    with pytest.raises(TrianflowError, match=r"ground truth 1305031236\.19 to 1305031240\.5, estimate 1305031237\.1 "):
        associate(at([1305031236.19, 1305031240.5]), at([1305031237.1, 1305031238, 1305031238.5]))
    with pytest.raises(TrianflowError, match="the ground truth has no time stamps"):
        associate(at([0, 1, 2]), at([0.5, 1.5]))
    with pytest.raises(TrianflowError, match="no common frame index"):
        associate(at([0, 1, 2]), at([]))
    with pytest.raises(TrianflowError, match="1 pose in common"):
        align_trajectories(at([0, 1, 2]), at([2, 3]))
