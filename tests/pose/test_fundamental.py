"""The fundamental matrix without a calibration."""

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.synthetic.matches import random_match_scene
from trianflow.geometry.camera import pixel_rays
from trianflow.geometry.epipolar import (
    essential_from_fundamental,
    fundamental_from_essential,
    pose_from_essential,
    sampson_distance,
    skew,
)
from trianflow.pose.fundamental import solve_fundamental


def tensors(scene, dtype=torch.float64):
    return torch.from_numpy(scene.p_a)[None].to(dtype), torch.from_numpy(scene.p_b)[None].to(dtype)


def direction_error(F, scene, inlier):
    K, (p_a, p_b) = scene.camera.K()[None], tensors(scene)
    _, t, _ = pose_from_essential(
        essential_from_fundamental(F, K, K), pixel_rays(p_a, K), pixel_rays(p_b, K), inlier.double()
    )
    true = scene.T_ba[:3, 3] / np.linalg.norm(scene.T_ba[:3, 3])
    return np.degrees(np.arccos(np.clip(t[0].numpy() @ true, -1, 1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_matches_give_the_true_matrix(dtype):
    scene = random_match_scene(0, 500, outliers=0.2, noise=0.0)
    found = solve_fundamental(*tensors(scene, dtype))
    T, K = torch.from_numpy(scene.T_ba)[None], scene.camera.K()[None]
    true = fundamental_from_essential(skew(T[:, :3, 3]) @ T[:, :3, :3], K, K)
    sign = torch.sign((found.F_ba.double() * true).sum())
    assert bool(found.ok)
    assert found.F_ba.dtype == dtype
    # Of the scale of F only its effect counts: distances of true matches.
    distance = sampson_distance(sign * found.F_ba.double(), *tensors(scene))[0, scene.inlier]
    assert distance.abs().max() < (0.01 if dtype == torch.float32 else 1e-6)
    assert torch.linalg.det(found.F_ba.double()).abs() < 1e-8
    assert (found.inlier[0].numpy() | ~scene.inlier).all()


def test_at_least_as_good_as_opencv():
    ours, theirs = [], []
    for seed in range(6):
        scene = random_match_scene(seed, 4000, outliers=0.3, noise=0.5)
        found = solve_fundamental(*tensors(scene), seed=seed)
        ours.append(direction_error(found.F_ba, scene, found.inlier))
        assert 0.45 < float(found.noise) < 0.58
        F, mask = cv2.findFundamentalMat(scene.p_a, scene.p_b, cv2.USAC_MAGSAC, 1.0, 0.999, 10_000)
        mask = torch.from_numpy(mask[None, :, 0] > 0)
        theirs.append(direction_error(torch.from_numpy(F)[None], scene, mask))
    assert np.median(ours) < np.median(theirs)
    assert np.median(ours) < 1.5


def test_nothing_to_find():
    scene = random_match_scene(1, 1000, kind="random")
    found = solve_fundamental(*tensors(scene))
    assert not bool(found.ok)
    assert found.F_ba.abs().max() == 0
    assert not found.inlier.any()
    nan = torch.full((1, 20, 2), torch.nan, dtype=torch.float64)
    assert not bool(solve_fundamental(nan, nan).ok)
    for few in (0, 5, 7):
        assert not bool(solve_fundamental(nan[:, :few], nan[:, :few]).ok)
    same = torch.ones(1, 20, 2, dtype=torch.float64)
    found = solve_fundamental(same, same)
    assert not bool(found.ok)
    assert found.F_ba.isfinite().all()


def test_an_item_does_not_feel_its_neighbours():
    good, bad = (tensors(random_match_scene(2, 600, kind=kind)) for kind in ("general", "random"))
    nan = torch.full_like(good[0], torch.nan)
    alone = solve_fundamental(*good)
    batch = solve_fundamental(torch.cat([bad[0], good[0], nan]), torch.cat([bad[1], good[1], nan]))
    assert batch.ok.tolist() == [False, True, False]
    torch.testing.assert_close(batch.F_ba[1], alone.F_ba[0], atol=1e-9, rtol=1e-6)
    assert torch.equal(batch.inlier[1], alone.inlier[0])
