"""Carried structure: triangulated depths with their uncertainty, fused, handed on and replenished."""

import math

import numpy as np
import pytest
import torch

from trianflow.data.synthetic.matches import random_match_scene
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import invert_pose, project, transform
from trianflow.odometry.structure import Structure, follow, measure_depth


def structure_of(scene, sigma=0.1):
    depth = torch.from_numpy(scene.depth_a)
    return Structure(torch.from_numpy(scene.p_a), depth.log(), torch.full_like(depth, sigma**2))


def test_measured_depth_is_exact_without_noise():
    scene = random_match_scene(0, 500, outliers=0.0, noise=0.0)
    log_depth, variance = measure_depth(
        torch.from_numpy(scene.p_a), torch.from_numpy(scene.p_b), torch.from_numpy(scene.T_ba), scene.camera.K(), 0.1
    )
    good = log_depth.isfinite()
    assert good.sum() > 450
    np.testing.assert_allclose(log_depth[good].exp(), scene.depth_a[good], rtol=1e-6)
    assert (variance[good] < (1 / 3) ** 2).all()  # the parallax is above three times the noise


def test_stated_uncertainty_is_the_scatter():
    scene = random_match_scene(1, 8000, outliers=0.0, noise=0.3)
    T_ba = torch.from_numpy(scene.T_ba)
    noise = 0.3 * math.sqrt(2)  # of the displacement: both ends are noisy
    log_depth, variance = measure_depth(
        torch.from_numpy(scene.p_a), torch.from_numpy(scene.p_b), T_ba, scene.camera.K(), noise
    )
    certain = variance < 0.1**2
    z = (log_depth - torch.from_numpy(scene.depth_a).log())[certain] / variance[certain].sqrt()
    assert 0.85 < z.std() < 1.15
    assert z.mean().abs() < 0.2  # choosing by the measured parallax favours points measured too near


def test_points_behind_and_without_parallax_are_not_measured():
    scene = random_match_scene(2, 200, outliers=0.0, noise=0.0)
    p_a, p_b, T_ba = (torch.from_numpy(x) for x in (scene.p_a, scene.p_b, scene.T_ba))
    backwards = T_ba.clone()
    backwards[:3, 3] *= -1
    assert measure_depth(p_a, p_b, backwards, scene.camera.K(), 0.1)[0].isnan().all()
    assert measure_depth(p_a, p_b, T_ba, scene.camera.K(), 1e3)[0].isnan().all()


def test_fusion_is_the_inverse_variance_mean_and_drops_what_disagrees():
    zeros = torch.zeros(4, dtype=torch.float64)
    prior = Structure(torch.zeros(4, 2, dtype=torch.float64), zeros, zeros + 0.04)
    measured = torch.tensor([0.1, -0.1, 5.0, torch.nan], dtype=torch.float64)
    fused = prior.fused(measured, torch.tensor([0.04, 0.12, 0.04, torch.nan], dtype=torch.float64))
    assert len(fused) == 3  # the third is 5 away, at a sigma of 0.28
    np.testing.assert_allclose(fused.log_depth, [0.05, -0.025, 0.0], atol=1e-12)
    np.testing.assert_allclose(fused.variance, [0.02, 0.03, 0.04], atol=1e-12)


def test_moved_points_have_their_depth_in_the_next_frame():
    scene = random_match_scene(3, 300, outliers=0.0, noise=0.0)
    T_ba, K = torch.from_numpy(scene.T_ba), scene.camera.K()
    structure = structure_of(scene)
    ok = torch.arange(300) % 3 > 0
    moved = structure.moved(T_ba, K, torch.from_numpy(scene.p_b), ok)
    X_b = transform(T_ba, structure.points(K))
    assert len(moved) == ok.sum()
    np.testing.assert_allclose(moved.log_depth.exp(), X_b[ok, 2], rtol=1e-12)
    np.testing.assert_allclose(project(moved.points(K), K), moved.p, atol=1e-9)
    np.testing.assert_allclose(transform(invert_pose(T_ba), moved.points(K)), structure.points(K)[ok], atol=1e-6)
    assert (moved.variance > structure.variance[ok]).all()


def test_new_points_fill_free_cells_only():
    old = Structure(torch.tensor([[5.0, 5.0]], dtype=torch.float64), torch.zeros(1).double(), torch.ones(1).double())
    p = torch.tensor([[6.0, 6.0], [15.0, 5.0], [16.0, 6.0], [25.0, 5.0], [35.0, 5.0]], dtype=torch.float64)
    depth = torch.tensor([1.0, 2.0, 3.0, torch.nan, 5.0], dtype=torch.float64)
    grown = old.extended(p, depth, torch.ones(5).double(), limit=10, spacing=10.0)
    np.testing.assert_allclose(grown.log_depth, [0.0, 2.0, 5.0])
    assert len(old.extended(p, depth, torch.ones(5).double(), limit=2, spacing=10.0)) == 2
    assert len(Structure.empty().extended(p, depth, torch.ones(5).double(), limit=10, spacing=10.0)) == 3


def test_follow_takes_consistent_points_and_refuses_the_rest():
    flow_ab = torch.zeros(1, 2, 40, 60)
    flow_ab[:, 0] = 2.5
    flow_ba = -flow_ab.clone()
    flow_ba[:, :, :20] = 0  # the way back disagrees in the upper half
    p = torch.tensor([[10.0, 30.0], [10.25, 30.5], [10.0, 5.0], [59.0, 30.0]], dtype=torch.float64)
    p_b, ok = follow(p, FlowPair(flow_ab, flow_ba), 1.0, 0.05)
    np.testing.assert_allclose(p_b - p, np.tile([2.5, 0.0], (4, 1)), atol=1e-5)
    assert ok.tolist() == [True, True, False, False]  # the last one leaves the image
    assert follow(p[:0], FlowPair(flow_ab, flow_ba), 1.0, 0.05)[0].shape == (0, 2)


@pytest.mark.parametrize("scale", [0.01, 1.0, 250.0])
def test_points_are_the_backprojection(scale):
    scene = random_match_scene(4, 50, outliers=0.0, noise=0.0)
    structure = structure_of(scene)
    scaled = Structure(structure.p, structure.log_depth + math.log(scale), structure.variance)
    K = scene.camera.K()
    np.testing.assert_allclose(scaled.points(K), structure.points(K) * scale, rtol=1e-12)
    np.testing.assert_allclose(project(scaled.points(K), K), scene.p_a, atol=1e-9)
