"""The sliding window in the odometry: what it repairs, and what it must not touch."""

import numpy as np
import pytest
import torch

from tests.odometry.corridor import CAMERA, CONFIG, Corridor, Painted, drive, log_scales
from trianflow.config import load_settings
from trianflow.flow.interface import FlowPair
from trianflow.geometry.radial import radial_of_pair
from trianflow.odometry import window
from trianflow.odometry.pipeline import VisualOdometry

BEND = drive(60, speed=0.15, turn=3.0)


def config(*words):
    return load_settings(CONFIG, None, words)


def run(world, *words):
    odometry = VisualOdometry(CAMERA, config(*words), world)
    steps = [odometry.track(frame) for frame in world.frames()]
    return odometry, steps


def drift(world, odometry):
    scales = log_scales(world, odometry)
    return abs(scales[-15:].mean() - scales[1:16].mean())


def test_the_distortion_that_a_calibration_has_left_is_found_and_no_longer_bends_the_scale():
    world = Corridor(BEND, radial=-0.03)
    trusting, _ = run(world, "window.radial_sigma=0")
    learning, _ = run(world)
    assert trusting.radial == 0
    assert learning.radial == pytest.approx(-0.03, abs=0.01)
    assert drift(world, learning) < 0.5 * drift(world, trusting)


def test_a_good_calibration_stays_as_it_is():
    odometry, _ = run(Corridor(BEND))
    assert abs(odometry.radial) < 0.003


def test_no_distortion_is_learnt_on_a_straight_way():
    odometry, _ = run(Corridor(drive(20, turn=0.0), radial=-0.03))
    assert odometry.radial == 0


def test_exact_flow_is_left_exact():
    world = Corridor(drive(40))
    scales = log_scales(world, run(world)[0])
    assert np.ptp(scales[1:]) < 0.02


def test_refined_points_carry_the_scale_where_the_flow_is_wrong():
    world = Painted(drive(30))
    by_flow, refined = (log_scales(world, run(world, f"matches.refine={on}")[0])[3:].std() for on in (False, True))
    assert refined < 0.6 * by_flow


def test_points_outlive_a_pair_that_cannot_be_refined(monkeypatch):
    """Their looks are compared again after it, under all that has become of their shapes."""
    world = Painted(drive(24, speed=1.0), wrong=0.0)
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    compare, followed = odometry._solver.compare, []

    def comparing(flow, structure, refiner):
        return compare(flow, structure, None if len(followed) == 14 else refiner)

    monkeypatch.setattr(odometry._solver, "compare", comparing)
    for frame in world.frames():
        odometry.track(frame)
        tracks = odometry._window._window
        followed.append(int((tracks.seen.sum(0) > 3)[odometry._window._alive].sum()))
    assert followed[14] > 80
    assert followed[15] > 0.8 * followed[14], "0.64 where the pair leaves no trace in their shapes"


def test_without_a_window_each_pair_stands_by_itself():
    world = Corridor(drive(12))
    odometry, steps = run(world, "window.frames=0")
    assert odometry.radial is None
    np.testing.assert_allclose(odometry.trajectory.T_wc, np.stack([step.T_wc for step in steps]), atol=1e-9)


def test_radial_of_pair_finds_the_coefficient_of_a_turning_pair_and_its_uncertainty():
    rng = np.random.default_rng(0)
    found, sigmas = [], []
    for seed in range(12):
        world = Corridor(BEND, radial=-0.03)
        flow = world.flow(20, 21).flow_ab[0].double().permute(1, 2, 0).reshape(-1, 2)
        pick = torch.from_numpy(np.random.default_rng(seed).choice(len(flow), 1500, replace=False))
        v, u = pick // CAMERA.width, pick % CAMERA.width
        p_a = torch.stack([u, v], -1).double()
        noise = torch.from_numpy(rng.normal(0, 0.1, (1500, 2)))
        c, f = torch.tensor([CAMERA.cx, CAMERA.cy]), CAMERA.fx
        T_ba = torch.from_numpy(np.linalg.inv(BEND[21]) @ BEND[20])
        radial, information = radial_of_pair((p_a - c) / f, (p_a + flow[pick] + noise - c) / f, T_ba, 0.1 / f)
        found.append(radial)
        sigmas.append(information**-0.5)
    assert np.mean(found) == pytest.approx(-0.03, abs=3 * np.mean(sigmas))
    assert 0.5 < np.std(found) / np.mean(sigmas) < 2


class Sky(Corridor):
    """Above eye height there is sky, and the flow is not exact."""

    def depth(self, i):
        depth = super().depth(i)
        depth[: CAMERA.height // 2] = 1e6
        return depth

    def flow(self, a, b):
        pair = super().flow(a, b)
        generator = torch.Generator().manual_seed(1000 * a + b)
        return FlowPair(*(f + 0.1 * torch.randn(f.shape, generator=generator) for f in (pair.flow_ab, pair.flow_ba)))


def test_the_sky_takes_no_more_than_its_share_of_the_tracks(monkeypatch):
    monkeypatch.setattr(window, "_LEAST_PARALLAX", 0.0)  # let it in
    world, sky = Sky(drive(30)), []
    for share in (window._FAR_SHARE, 1.0):
        monkeypatch.setattr(window, "_FAR_SHARE", share)
        odometry, _ = run(world, "matches.ratio=1")
        tracks = odometry._window._window
        home = tracks.x[tracks.anchor, torch.arange(len(tracks.anchor))]
        sky.append(int(((home[:, 1] < -0.05) & odometry._window._alive).sum()) / odometry.config.window.points)
    assert sky[0] < 0.35
    assert sky[1] > sky[0] + 0.1
