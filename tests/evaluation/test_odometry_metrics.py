"""All odometry metrics of an estimate together: alignments, gaps, rates, degenerate input."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.trajectories import drive, noisy, transformed
from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import Alignment
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.trajectory import Trajectory

ALIGNMENTS = ["none", "scale", "se3", "sim3"]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_perfect_estimate_in_its_own_world(alignment: str) -> None:
    pytest.importorskip("evo")
    gt = drive(150, seed=5)
    scale = 0.2 if alignment in ("scale", "sim3") else 1.0
    m = evaluate_odometry(gt, transformed(gt, scale, seed=1), alignment, [20, 40])
    assert m.ate is not None
    assert m.rpe is not None
    assert m.scale == pytest.approx(1 / scale)
    assert (m.alignment, m.alignment_status, m.association, m.compared) == (
        Alignment(alignment),
        "ok",
        "row",
        151,
    )
    errors = [m.t_err, m.r_err, m.ate.max, m.rpe.translation.max, m.rpe.rotation.max, m.pair_rotation_median]
    assert errors == pytest.approx([0] * 6, abs=1e-4)
    assert m.path_length == pytest.approx(150)


def test_sim3_beats_se3_beats_none() -> None:
    pytest.importorskip("evo")
    gt = drive(300, seed=6)
    est = noisy(gt)
    T_wc = est.T_wc.copy()
    T_wc[:, :3, 3] *= 1.1
    ate = {a: evaluate_odometry(gt, Trajectory(gt.times, T_wc), a).ate for a in ALIGNMENTS}
    rmse = {a: e.rmse for a, e in ate.items() if e is not None}
    assert rmse["sim3"] < rmse["se3"] < rmse["none"]
    assert rmse["sim3"] <= rmse["scale"] < rmse["none"]


def test_without_evo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evo", None)
    monkeypatch.setitem(sys.modules, "evo.core", None)
    gt = drive(30)
    with pytest.raises(TrianflowError, match=r"pip install 'trianflow\[eval\]'"):
        evaluate_odometry(gt, gt)
    m = evaluate_odometry(gt, gt, lengths=[10], with_evo=False)
    assert (m.ate, m.rpe, m.t_err) == (None, None, pytest.approx(0, abs=1e-6))


def test_shorter_than_the_shortest_segment() -> None:
    m = evaluate_odometry(drive(50), drive(50, yaw=0.1), with_evo=False)
    assert (m.t_err, m.r_err, m.segments) == (None, None, 0)
    json.dumps(m.to_dict(), allow_nan=False)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_static_estimate(alignment: str) -> None:
    pytest.importorskip("evo")
    gt = drive(200, seed=9)
    est = Trajectory(gt.times, np.tile(np.eye(4), (201, 1, 1)))
    m = evaluate_odometry(gt, est, alignment, [20])
    assert m.t_err == pytest.approx(100, rel=0.06)  # all of the way is missing
    assert m.pair_direction_median == 90
    assert m.alignment_status == ("ok" if alignment == "none" else "static")
    json.dumps(m.to_dict(), allow_nan=False)


def test_missing_frames_and_longer_estimates() -> None:
    gt = drive(200, seed=10)
    est = noisy(gt)
    whole = evaluate_odometry(gt, est, "none", [30], with_evo=False)
    longer = evaluate_odometry(replace(gt, times=gt.times[:101], T_wc=gt.T_wc[:101]), est, "none", [30], with_evo=False)
    assert (longer.compared, longer.gt_poses, longer.est_poses) == (101, 101, 201)
    assert longer.path_length == pytest.approx(100)
    keep = np.delete(np.arange(201), [0, 1, 35])
    kept = replace(est, times=est.times[keep], T_wc=est.T_wc[keep])
    gaps = evaluate_odometry(gt, kept, "none", [30], with_evo=False)
    assert (gaps.association, gaps.compared) == ("frame index", 198)
    assert gaps.segments == whole.segments - 1  # the one that starts at frame 0
    assert (gaps.gt_poses, gaps.est_poses) == (201, 198)


def test_time_stamps_with_another_rate() -> None:
    gt = drive(400, seed=11, step=0.25)
    fast = Trajectory(1.3e9 + 0.01 * np.arange(401), gt.T_wc)
    slow = Trajectory(fast.times[5::4] + 0.002, transformed(gt, 3.0).T_wc[5::4])
    m = evaluate_odometry(fast, slow, "sim3", [20], step=3, with_evo=False)
    assert (m.association, m.compared, m.scale) == ("time stamp", 99, pytest.approx(1 / 3))
    assert m.t_err == pytest.approx(0, abs=1e-6)
    # 99 poses a metre (less the bends) apart, of which every third can begin a segment of 20 m
    assert 24 <= m.segments <= 27


def test_poses_that_are_not_finite_are_refused() -> None:
    gt = drive(10)
    T_wc = gt.T_wc.copy()
    T_wc[3, 0, 3] = np.nan
    with pytest.raises(TrianflowError, match="the estimate holds a pose that is not finite, the first in row 4"):
        evaluate_odometry(gt, Trajectory(gt.times, T_wc))
