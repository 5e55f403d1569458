"""The two-view solver: accuracy, independent items, settings."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.pose.two_view_pairs import K, angle_errors, check_promises, stacked, tensors
from trianflow.config import OdometryConfig, TwoViewConfig
from trianflow.data.synthetic.matches import KITTI_CAMERA, random_match_scene
from trianflow.geometry.camera import Camera, homogeneous
from trianflow.geometry.epipolar import sampson_distance
from trianflow.geometry.sampson import tangent_basis
from trianflow.geometry.scale import masked_median
from trianflow.pose.reference import solve_two_view_opencv
from trianflow.pose.selection import robust_noise
from trianflow.pose.two_view import TwoViewStatus, solve_two_view


def test_accuracy_beside_outliers() -> None:
    """Eight scenes of 8,000 matches, 30 % outliers, half a pixel of noise."""
    scenes = [random_match_scene(seed) for seed in range(8)]
    p_a, p_b = stacked(scenes)
    view = solve_two_view(p_a, p_b, K)
    check_promises(view, p_a, p_b)
    assert (view.status == TwoViewStatus.OK).all()
    errors = np.array([angle_errors(T, s.T_ba) for T, s in zip(view.T_ba, scenes)])
    assert np.median(errors[:, 0]) <= 0.006
    assert np.median(errors[:, 1]) <= 0.13
    assert errors[:, 0].max() < 0.02
    assert errors[:, 1].max() < 0.5
    inlier = torch.stack([torch.from_numpy(s.inlier) for s in scenes])
    hits = (view.inlier & inlier).sum(1)
    assert (hits / view.inlier.sum(1)).min() > 0.97
    assert (hits / inlier.sum(1)).min() > 0.97
    np.testing.assert_allclose(view.noise, 0.5, rtol=0.1)


def test_without_noise_it_is_exact() -> None:
    for seed in range(3):
        scene = random_match_scene(seed, 2000, 0.0, 0.0)
        rotation, direction = angle_errors(solve_two_view(*tensors(scene), K).T_ba[0], scene.T_ba)
        assert rotation < 1e-6
        assert direction < 1e-5


def test_measures_of_a_pair() -> None:
    """F, noise, motion and parallax against their definitions."""
    scene = random_match_scene(3, 4000, 0.2, 0.4)
    p_a, p_b = tensors(scene)
    view = solve_two_view(p_a, p_b, K)
    inlier = torch.from_numpy(scene.inlier)
    clean = random_match_scene(3, 4000, 0.0, 0.0)
    clean_a, clean_b = tensors(clean)
    assert sampson_distance(view.F_ba, clean_a, clean_b).abs().max() < 0.5
    constraint = torch.einsum("ni,ij,nj->n", homogeneous(p_b[0]), view.F_ba[0], homogeneous(p_a[0]))
    assert constraint[inlier].abs().median() < 0.1 * constraint[~inlier].abs().median()
    assert view.noise[0] == pytest.approx(0.4, rel=0.1)
    assert view.motion[0] == pytest.approx((p_b - p_a)[0, inlier].norm(dim=-1).median().item(), rel=0.03)
    far = homogeneous(p_a[0]) @ (K @ torch.from_numpy(scene.T_ba[:3, :3]) @ torch.linalg.inv(K)).T
    apart = (p_b[0] - far[:, :2] / far[:, 2:]).norm(dim=-1)
    assert view.parallax[0] == pytest.approx(apart[inlier].median().item(), rel=0.03)


def test_direction_sigma_is_the_scatter_of_the_direction() -> None:
    scenes = [random_match_scene(seed, 2000, 0.2, 0.5) for seed in range(40)]
    view = solve_two_view(*stacked(scenes), K)
    errors = np.radians([angle_errors(T, s.T_ba)[1] for T, s in zip(view.T_ba, scenes)])
    ratio = np.sqrt(np.mean((errors / view.direction_sigma.numpy()) ** 2))
    assert 0.6 < ratio < 1.7


def test_float32_is_as_good_as_its_pixels() -> None:
    scene = random_match_scene(4, 3000)
    double, single = (solve_two_view(*tensors(scene, d), K.to(d)) for d in (torch.float64, torch.float32))
    check_promises(single, *tensors(scene, torch.float32))
    torch.testing.assert_close(single.T_ba.double(), double.T_ba, rtol=0, atol=2e-4)
    assert (single.inlier == double.inlier).float().mean() > 0.99


def test_anisotropic_camera() -> None:
    """A focal length of its own for each axis: the published code takes one for both."""
    camera = Camera(480.0, 700.0, 300.0, 190.0, 640, 400)
    for seed in range(3):
        scene = random_match_scene(seed, 3000, 0.2, 0.2, camera=camera)
        view = solve_two_view(*tensors(scene), camera.K())
        rotation, direction = angle_errors(view.T_ba[0], scene.T_ba)
        assert rotation < 0.02
        assert direction < 0.5


def test_sideways_backwards_and_large_turns() -> None:
    """Motions that random_match_scene does not draw."""
    rng = np.random.default_rng(5)
    for t in ([1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.5], [-0.8, 0.3, 0.5]):
        for turn in (0.0, 0.15):
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = cv2.Rodrigues(np.array([0.02, turn, -0.03]))[0], t
            p_a = rng.uniform(0, [1225, 369], (6000, 2))
            z = rng.uniform(6, 40, 6000)
            X = np.column_stack([(p_a - K[:2, 2].numpy()) / K[0, 0].item(), np.ones(6000)]) * z[:, None]
            Y = X @ T[:3, :3].T + T[:3, 3]
            p_b = Y[:, :2] / Y[:, 2:] * K[0, 0].item() + K[:2, 2].numpy() + rng.normal(0, 0.3, (6000, 2))
            p_b[:1500] = rng.uniform(0, [1225, 369], (1500, 2))
            view = solve_two_view(torch.from_numpy(p_a)[None], torch.from_numpy(p_b)[None], K)
            assert view.status[0] == TwoViewStatus.OK
            rotation, direction = angle_errors(view.T_ba[0], T)
            assert rotation < 0.03
            assert direction < 0.5


def test_items_are_independent() -> None:
    """A good pair alone is the same as beside a standing, a random, an empty and a broken one."""
    kinds = ["general", "static", "random", "general", "planar", "rotation"]
    p_a, p_b = stacked([random_match_scene(i, 1500, 0.2, 0.5, kind) for i, kind in enumerate(kinds)])
    p_b[3] = torch.nan
    batch = solve_two_view(p_a, p_b, K)
    expected = ["OK", "STATIC", "NO_CONSENSUS", "TOO_FEW_MATCHES", "PLANAR", "ROTATION_ONLY"]
    assert [TwoViewStatus(int(s)).name for s in batch.status] == expected
    for i in range(6):
        alone = solve_two_view(p_a[i : i + 1], p_b[i : i + 1], K)
        assert alone.status[0] == batch.status[i]
        torch.testing.assert_close(alone.T_ba[0], batch.T_ba[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.noise[0], batch.noise[i], rtol=1e-3, atol=1e-6)
        assert (alone.inlier[0] == batch.inlier[i]).float().mean() > 0.995


def test_intrinsics_of_each_item() -> None:
    cameras = [KITTI_CAMERA, Camera(300.0, 300.0, 319.5, 239.5, 640, 480)]
    scenes = [random_match_scene(i, 1500, 0.2, 0.3, camera=c) for i, c in enumerate(cameras)]
    view = solve_two_view(*stacked(scenes), torch.stack([c.K() for c in cameras]))
    for T, scene in zip(view.T_ba, scenes):
        rotation, direction = angle_errors(T, scene.T_ba)
        assert rotation < 0.05
        assert direction < 1.5


def test_valid_leaves_matches_out() -> None:
    scene = random_match_scene(6, 2000, 0.3)
    p_a, p_b = tensors(scene)
    other = random_match_scene(7, 2000, 0.0)
    both_a, both_b = (torch.cat([x, y], 1) for x, y in zip((p_a, p_b), tensors(other)))
    both_b[:, 2000:] = both_b[:, 2000:].roll(1, 1)
    valid = torch.arange(4000)[None] < 2000
    view = solve_two_view(both_a, both_b, K, valid)
    assert not view.inlier[:, 2000:].any()
    assert angle_errors(view.T_ba[0], scene.T_ba)[1] < 0.5
    nothing = solve_two_view(both_a, both_b, K, valid & False)
    assert nothing.status[0] == TwoViewStatus.TOO_FEW_MATCHES


def test_seed_repeats() -> None:
    p_a, p_b = tensors(random_match_scene(8, 2000, 0.4))
    first, again, other = (solve_two_view(p_a, p_b, K, seed=seed) for seed in (0, 0, 1))
    for field in fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    assert not torch.equal(first.T_ba, other.T_ba)
    torch.testing.assert_close(first.T_ba, other.T_ba, rtol=0, atol=0.02)


def test_config_matters() -> None:
    scene = random_match_scene(9, 2000, 0.2, 1.0)
    p_a, p_b = tensors(scene)
    strict = solve_two_view(p_a, p_b, K, config=TwoViewConfig(threshold=0.5))
    loose = solve_two_view(p_a, p_b, K, config=TwoViewConfig(threshold=5.0))
    assert strict.inlier.sum() < 0.6 * loose.inlier.sum()
    fast, errors = OdometryConfig.preset("fast").two_view, []
    for seed in range(5):
        scene = random_match_scene(seed, 2000, 0.2, 0.5)
        errors.append(angle_errors(solve_two_view(*tensors(scene), K, config=fast).T_ba[0], scene.T_ba)[1])
    assert np.median(errors) < 0.5


def test_no_gradient_and_no_change_of_the_input() -> None:
    p_a, p_b = tensors(random_match_scene(10, 500))
    p_b[0, 3] = torch.nan
    kept = p_a.clone(), p_b.clone()
    view = solve_two_view(p_a.requires_grad_(), p_b, K)
    assert not any(getattr(view, f.name).requires_grad for f in fields(view))
    assert torch.equal(p_a, kept[0])
    torch.testing.assert_close(p_b, kept[1], equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(10, 2), (1, 10, 3), (1, 1, 10, 2)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    for solve in (solve_two_view, solve_two_view_opencv):
        with pytest.raises(ValueError, match=r"two \(B, N, 2\) tensors"):
            solve(torch.zeros(shape), torch.zeros(shape), K)
        with pytest.raises(ValueError, match=r"two \(B, N, 2\) tensors"):
            solve(torch.zeros(1, 10, 2), torch.zeros(1, 9, 2), K)


def test_masked_median() -> None:
    x = torch.tensor([[1.0, 5, 2, 9], [4, 3, 2, 1], [1, 1, 1, 1]])
    mask = torch.tensor([[True, True, False, True], [True, True, True, True], [False] * 4])
    assert masked_median(x, mask).tolist() == [5.0, 2.0, 0.0]


@pytest.mark.parametrize("freedom", [1, 2])
def test_robust_noise_of_a_chi_square(freedom: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.2, 0.5], dtype=torch.float64)
    x = torch.randn(2, 20_000, freedom, dtype=torch.float64, generator=generator) * sigma[:, None, None]
    squared = x.square().sum(-1)
    # A quarter of the distances is anywhere, and NaN where not valid.
    squared[:, ::4] = (20 * torch.rand(2, 5000, dtype=torch.float64, generator=generator)).square()
    valid = torch.ones(2, 20_000, dtype=torch.bool)
    valid[:, 1::10], squared[:, 1::10] = False, torch.nan
    reach, floor = torch.full((2,), 2.0).double(), torch.full((2,), 1e-3).double()
    found = robust_noise(squared, valid, reach, freedom, floor)
    torch.testing.assert_close(found, sigma, rtol=0.05, atol=0)
    assert torch.equal(robust_noise(squared * 0, valid, reach, freedom, floor), floor)
    assert torch.equal(robust_noise(squared, valid & False, reach, freedom, floor), floor)


def test_information_is_that_of_the_scatter() -> None:
    """The same scene with new noise each time: squared errors in stated deviations average to five, the parameters."""
    scene = random_match_scene(3, 400, 0.0, 0.0)
    rng = np.random.default_rng(0)
    p_a, p_b = (torch.from_numpy(p + rng.normal(0, 0.3, (100, *p.shape))) for p in (scene.p_a, scene.p_b))
    view = solve_two_view(p_a, p_b, K, config=TwoViewConfig(hypotheses=64, subset=128))
    assert (view.status == TwoViewStatus.OK).all()
    truth = torch.from_numpy(scene.T_ba)
    turn = view.T_ba[:, :3, :3] @ truth[:3, :3].mT
    w = torch.from_numpy(Rotation.from_matrix(turn.numpy()).as_rotvec())
    t = view.T_ba[:, :3, 3]
    off = (tangent_basis(t) @ (t - truth[:3, 3] / truth[:3, 3].norm())[..., None])[..., 0]
    error = torch.cat([w, off], -1)
    squared = (error[:, None] @ view.information @ error[..., None])[:, 0, 0]
    assert 3.5 < squared.mean() < 7


def test_information_of_degenerate_pairs() -> None:
    """A rotation is known to the noise floor, below which a translation may pass for one; a plane's is not known."""
    turning, flat, still = (
        solve_two_view(*tensors(random_match_scene(0, 2000, 0.1, 0.5, kind)), K)
        for kind in ("rotation", "planar", "static")
    )
    assert turning.status == TwoViewStatus.ROTATION_ONLY
    assert flat.status == TwoViewStatus.PLANAR
    sigma = turning.information[0].diagonal()[:3].rsqrt() * K[0, 0]
    assert (sigma >= TwoViewConfig().noise_floor).all()
    assert (sigma < 1.1 * TwoViewConfig().noise_floor).all()
    assert (turning.information[0, 3:] == 0).all()
    assert (flat.information == 0).all()
    assert (still.information == 0).all()
