"""Sampling, splatting and rigid flow against brute force, scipy, OpenCV, and exact truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from trianflow.geometry.camera import Camera, pose_matrix
from trianflow.geometry.warping import flow_targets, forward_splat, inverse_warp, rigid_flow, sample

DTYPES = [torch.float32, torch.float64]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("padding", "mode"), [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "mirror")]
)
def test_sample_against_scipy(dtype: torch.dtype, padding: str, mode: str) -> None:
    x = rand(2, 3, 7, 9, dtype=dtype)
    points = rand(2, 5, 6, 2, seed=1, dtype=dtype) * torch.tensor([14.0, 12.0], dtype=dtype) - 3
    out = sample(x, points, padding)
    assert out.shape == (2, 3, 5, 6)
    assert out.dtype == dtype
    for b in range(2):
        for c in range(3):
            at = points[b].flip(-1).permute(2, 0, 1).double().numpy()
            expected = map_coordinates(x[b, c].double().numpy(), at, order=1, mode=mode, cval=0.0)
            np.testing.assert_allclose(out[b, c], expected, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_sample_at_pixel_centres_and_between() -> None:
    x = torch.tensor([[[[0.0, 1, 2], [10, 11, 12]]]])
    at = torch.tensor([[[0.0, 0], [2, 1], [1.5, 0], [1, 0.5], [1.25, 0.75]]])
    torch.testing.assert_close(sample(x, at), torch.tensor([[[0.0, 12, 1.5, 6, 8.75]]]))


def test_sample_of_no_points_and_of_one_pixel() -> None:
    assert sample(torch.ones(2, 3, 4, 4), torch.zeros(2, 0, 2)).shape == (2, 3, 0)
    one = sample(torch.full((1, 1, 1, 1), 7.0), torch.zeros(1, 2, 2), "border")
    assert one.tolist() == [[[7.0, 7.0]]]


def test_sample_items_are_independent() -> None:
    x, points = rand(3, 2, 6, 6), rand(3, 8, 2, seed=1) * 5
    alone = sample(x[1:2], points[1:2])
    x[0], points[2] = torch.nan, torch.nan
    assert torch.equal(sample(x, points)[1:2], alone)


def test_sample_gradient() -> None:
    x = rand(2, 2, 5, 6).requires_grad_()
    # Off the pixel lines, where bilinear interpolation has a kink.
    points = (torch.randint(0, 4, (2, 7, 2)) + 0.2 + 0.6 * rand(2, 7, 2, seed=3)).requires_grad_()
    for padding in ("zeros", "border", "reflection"):
        assert torch.autograd.gradcheck(lambda x, p, padding=padding: sample(x, p, padding), (x, points))


def test_flow_targets() -> None:
    flow = rand(2, 2, 4, 5)
    targets = flow_targets(flow)
    assert targets.shape == (2, 4, 5, 2)
    torch.testing.assert_close(targets[1, 3, 2], torch.tensor([2.0, 3.0]).double() + flow[1, :, 3, 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_warp_against_opencv(dtype: torch.dtype) -> None:
    x = rand(1, 1, 30, 40, dtype=dtype)
    # Thirty-seconds of a pixel, the resolution of OpenCV's remap.
    flow = ((rand(1, 2, 30, 40, seed=2, dtype=dtype) * 20 - 10) * 32).round() / 32
    warped, inside = inverse_warp(x, flow)
    at = flow_targets(flow)[0].float().numpy()
    expected = cv2.remap(x[0, 0].float().numpy(), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    np.testing.assert_allclose(warped[0, 0], expected, atol=2e-6)
    u, v = at[..., 0], at[..., 1]
    np.testing.assert_array_equal(inside[0, 0], (u >= 0) & (u <= 39) & (v >= 0) & (v <= 29))
    assert inside.shape == (1, 1, 30, 40)
    assert inside.dtype == torch.bool


def test_inverse_warp_of_an_integer_shift() -> None:
    x = rand(2, 3, 6, 8)
    flow = torch.tensor([2.0, -1.0]).double()[None, :, None, None].expand(2, 2, 6, 8)
    warped, inside = inverse_warp(x, flow)
    torch.testing.assert_close(warped[..., 1:, :6], x[..., :5, 2:])
    assert (warped[..., 0, :].abs() < 1e-12).all()
    assert (warped[..., 6:].abs() < 1e-12).all()
    assert inside[..., 1:, :6].all()
    assert inside.sum() == 2 * 5 * 6


def test_inverse_warp_ignores_its_neighbours() -> None:
    x, flow = rand(2, 1, 6, 8), rand(2, 2, 6, 8, seed=1)
    alone = inverse_warp(x[:1], flow[:1])
    x[1], flow[1] = torch.nan, torch.nan
    warped, inside = inverse_warp(x, flow)
    assert torch.equal(warped[:1], alone[0])
    assert torch.equal(inside[:1], alone[1])
    assert not inside[1].any()


def splat_by_hand(x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(x)
    B, _, H, W = x.shape
    for b in range(B):
        for row in range(H):
            for column in range(W):
                u, v = column + float(flow[b, 0, row, column]), row + float(flow[b, 1, row, column])
                for i in range(H):
                    for j in range(W):
                        weight = max(0.0, 1 - abs(u - j)) * max(0.0, 1 - abs(v - i))
                        out[b, :, i, j] += weight * x[b, :, row, column]
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_splat_against_brute_force(dtype: torch.dtype) -> None:
    x = rand(2, 2, 5, 7, dtype=dtype)
    flow = rand(2, 2, 5, 7, seed=1, dtype=dtype) * 8 - 4
    out = forward_splat(x, flow)
    assert out.dtype == dtype
    torch.testing.assert_close(out, splat_by_hand(x, flow), rtol=1e-5, atol=1e-5)


def test_forward_splat_of_whole_and_half_pixels() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    shift = torch.zeros(1, 2, 3, 4)
    assert torch.equal(forward_splat(x, shift), x)
    shift[:, 0] = 1
    assert torch.equal(forward_splat(x, shift)[..., 1:], x[..., :-1])
    assert (forward_splat(x, shift)[..., 0] == 0).all()
    shift[:, 0] = 0.5
    expected = torch.nn.functional.pad((x[..., 1:] + x[..., :-1]) / 2, (1, 0))
    expected[..., 0] = x[..., 0] / 2
    torch.testing.assert_close(forward_splat(x, shift), expected)


@pytest.mark.parametrize("seed", range(5))
def test_forward_splat_conserves_what_stays_inside(seed: int) -> None:
    """Nothing is lost or made as long as all four pixels of a landing lie in the image."""
    x = rand(2, 3, 20, 30, seed=seed)
    start = flow_targets(torch.zeros(2, 2, 20, 30, dtype=torch.float64)).permute(0, 3, 1, 2)
    landing = rand(2, 2, 20, 30, seed=seed + 100) * torch.tensor([29.0, 19.0]).double()[:, None, None]
    out = forward_splat(x, landing - start)
    torch.testing.assert_close(out.sum((-1, -2)), x.sum((-1, -2)))
    # So are the first moments: bilinear weights keep the place of what they share out.
    for axis in (0, 1):
        arrived, sent = out * start[:, axis, None], x * landing[:, axis, None]
        torch.testing.assert_close(arrived.sum(), sent.sum())


def test_forward_splat_is_the_transpose_of_sampling() -> None:
    x, y, flow = rand(2, 2, 8, 9), rand(2, 2, 8, 9, seed=1), rand(2, 2, 8, 9, seed=2) * 12 - 6
    torch.testing.assert_close((forward_splat(x, flow) * y).sum(), (x * inverse_warp(y, flow)[0]).sum())


def test_forward_splat_drops_what_is_not_finite_and_what_leaves() -> None:
    x = torch.ones(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[0, 0, 0, 0], flow[0, 1, 1, 1], flow[0, 0, 2, 2] = torch.nan, torch.inf, -torch.inf
    flow[0, 0, 3, 3], flow[0, 1, 3, 4] = 1e30, -1e30
    expected = x.clone()
    for row, column in ((0, 0), (1, 1), (2, 2), (3, 3), (3, 4)):
        expected[0, 0, row, column] = 0
    assert torch.equal(forward_splat(x, flow), expected)
    for far in (100.0, -100.0):
        for axis in (0, 1):
            away = torch.zeros(1, 2, 4, 5)
            away[:, axis] = far
            assert forward_splat(x, away).abs().max() == 0


def test_forward_splat_gradient() -> None:
    x = rand(1, 2, 4, 5).requires_grad_()
    flow = (torch.randint(-3, 3, (1, 2, 4, 5)) + 0.2 + 0.6 * rand(1, 2, 4, 5, seed=4)).requires_grad_()
    assert torch.autograd.gradcheck(forward_splat, (x, flow))


def test_forward_splat_gradient_is_finite_beside_flow_that_is_not() -> None:
    flow = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    flow[0, 0, 0, 0] = torch.nan
    flow.requires_grad_()
    (forward_splat(rand(1, 1, 4, 5), flow) * rand(1, 1, 4, 5, seed=1)).sum().backward()
    assert flow.grad.isfinite().all()


CAMERA = Camera(50.0, 55.0, 19.0, 14.5, 40, 30)


def test_rigid_flow_known_values() -> None:
    """Sideways: the disparity f b / z; a step s forward: away from the principal point by z / (z - s)."""
    depth = 2 + rand(1, 1, 30, 40)
    T_ba = torch.eye(4, dtype=torch.float64)[None].clone()
    T_ba[0, 0, 3] = -0.3
    flow = rigid_flow(depth, T_ba, CAMERA.K()[None])
    torch.testing.assert_close(flow[:, :1], -50 * 0.3 / depth)
    torch.testing.assert_close(flow[:, 1], torch.zeros(1, 30, 40).double(), rtol=0, atol=1e-12)
    T_ba[0, :3, 3] = torch.tensor([0.0, 0, -0.5])
    flow = rigid_flow(depth, T_ba, CAMERA.K())
    from_centre = torch.stack([torch.arange(40.0) - 19.0] * 30).double()
    torch.testing.assert_close(flow[0, 0], from_centre * (depth[0, 0] / (depth[0, 0] - 0.5) - 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rigid_flow_against_opencv(dtype: torch.dtype) -> None:
    depth = 2 + rand(2, 1, 30, 40, dtype=dtype)
    R = torch.from_numpy(Rotation.from_rotvec([0.02, -0.05, 0.1]).as_matrix())
    T_ba = pose_matrix(R, torch.tensor([0.1, -0.2, 0.3]).double()).expand(2, 4, 4).to(dtype)
    flow = rigid_flow(depth, T_ba, CAMERA.K(dtype))
    v, u = np.mgrid[:30, :40]
    z = depth[1, 0].double().numpy()
    X = np.stack([(u - 19.0) / 50 * z, (v - 14.5) / 55 * z, z], -1).reshape(-1, 3)
    rotation, translation = cv2.Rodrigues(R.numpy())[0], np.array([0.1, -0.2, 0.3])
    p = cv2.projectPoints(X, rotation, translation, CAMERA.K().numpy(), None)[0]
    expected = p.reshape(30, 40, 2) - np.stack([u, v], -1)
    tolerance = 1e-6 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(flow[1].permute(1, 2, 0), expected, atol=tolerance)


def test_rigid_flow_items_are_independent_and_gradient() -> None:
    depth = 2 + rand(2, 1, 4, 5)
    T_ba = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    T_ba[:, 0, 3] = 0.2
    alone = rigid_flow(depth[:1], T_ba[:1], CAMERA.K())
    broken = depth.clone()
    broken[1] = torch.nan
    assert torch.equal(rigid_flow(broken, T_ba, CAMERA.K())[:1], alone)
    inputs = (depth.requires_grad_(), T_ba.requires_grad_(), CAMERA.K().requires_grad_())
    assert torch.autograd.gradcheck(rigid_flow, inputs)
