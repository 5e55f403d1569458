"""The figures of `tools/bench_odometry.py` that it computes by itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from trianflow.trajectory import Trajectory

PATH = Path(__file__).parents[2] / "tools" / "bench_odometry.py"


@pytest.fixture(scope="module")
def bench():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("bench_odometry", PATH)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)  # dataclasses look for their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def straight(steps):
    T_wc = np.tile(np.eye(4), (len(steps) + 1, 1, 1))
    T_wc[1:, 2, 3] = np.cumsum(steps)
    return Trajectory(np.arange(len(T_wc)), T_wc)


def test_drift_by_hand(bench):
    """The unit is half a metre for 150 m, then 3 % less of one."""
    truth = straight([1.0] * 400)
    estimate = straight([2.0] * 150 + [2 * 1.03] * 250)
    ratio, end = bench.drift(truth, estimate)
    assert ratio == pytest.approx(1.03)
    assert end == pytest.approx(0.03 * 250)
    moved = Trajectory(estimate.times, np.diag([1.0, -1.0, -1.0, 1.0]) @ estimate.T_wc)
    assert bench.drift(truth, moved) == pytest.approx((ratio, end))


@pytest.mark.parametrize(("metres", "degrees", "far"), [(14, 19, False), (16, 0, True), (1, 21, True), (1, 180, True)])
def test_what_cannot_be_a_loop(bench, metres, degrees, far):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    T_wb = np.array([[c, 0, s, metres], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    assert bench.far_apart(np.eye(4), T_wb) is far


def test_speeds_of_the_true_poses(bench, tmp_path):
    truth = straight([0.8] * 10)
    truth.save(tmp_path / "poses.txt", "kitti")
    bench.write_speeds(tmp_path, tmp_path / "speed.txt")
    rows = np.loadtxt(tmp_path / "speed.txt")
    np.testing.assert_allclose(rows, np.stack([np.arange(11) / 10, np.full(11, 8.0)], 1))
    np.savetxt(tmp_path / "times.txt", np.arange(12) * 0.2)
    bench.write_speeds(tmp_path, tmp_path / "speed.txt")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "speed.txt")[:, 1], 4.0)
