"""The pinhole camera and its pixel maths, against OpenCV, images, and numbers worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from trianflow.geometry.camera import (
    Camera,
    backproject,
    homogeneous,
    invert_pose,
    normalize_pixels,
    pixel_grid,
    pixel_rays,
    pose_matrix,
    project,
    transform,
)

CAMERA = Camera(500.0, 520.0, 310.0, 200.0, 640, 420)
DTYPES = [torch.float32, torch.float64]


def ray_image(camera: Camera) -> torch.Tensor:
    """x/z and y/z of the ray of every pixel, `(H, W, 2)`."""
    grid = pixel_grid(camera.height, camera.width, torch.float64)
    return normalize_pixels(grid.flatten(1).T, camera.K()).reshape(camera.height, camera.width, 2)


def random_pose(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    R = torch.from_numpy(Rotation.from_rotvec(rng.normal(0, 0.5, 3)).as_matrix()).to(dtype)
    return pose_matrix(R, torch.from_numpy(rng.normal(0, 1, 3)).to(dtype))


def test_K_layout() -> None:
    expected = torch.tensor([[500.0, 0, 310], [0, 520, 200], [0, 0, 1]], dtype=torch.float64)
    assert torch.equal(CAMERA.K(), expected)
    assert CAMERA.K(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [
        (0.0, 1.0, 0.0, 0.0),
        (1.0, -1.0, 0.0, 0.0),
        (math.nan, 1.0, 0.0, 0.0),
        (1.0, 1.0, math.inf, 0.0),
        (1.0, 1.0, 0.0, 0.0, -4, 3),
        (1.0, 1.0, 0.0, 0.0, 4, 3, (math.nan,)),
    ],
)
def test_what_is_not_a_camera(values: tuple) -> None:
    with pytest.raises(ValueError, match="not a"):
        Camera(*values)


def test_resized_half_pixel() -> None:
    """Corners of the image (not centres of the corner pixels) keep their place."""
    small = CAMERA.resized(320, 105)
    assert (small.width, small.height) == (320, 105)
    assert (small.fx, small.fy) == (250.0, 130.0)
    assert small.cx == (310 + 0.5) / 2 - 0.5
    assert small.cy == (200 + 0.5) / 4 - 0.5
    assert small.resized(640, 420) == CAMERA
    rays = [(x, y) for x in (-0.5, 639.5) for y in (-0.5, 419.5)]
    scaled = torch.tensor([((x + 0.5) / 2 - 0.5, (y + 0.5) / 4 - 0.5) for x, y in rays], dtype=torch.float64)
    torch.testing.assert_close(
        normalize_pixels(torch.tensor(rays, dtype=torch.float64), CAMERA.K()),
        normalize_pixels(scaled, small.K()),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.parametrize("interpolation", [cv2.INTER_AREA, cv2.INTER_LINEAR])
def test_resized_agrees_with_the_image(interpolation: int) -> None:
    """An image of its own ray coordinates shows those of the new camera after OpenCV has resized it."""
    rays = ray_image(CAMERA)
    resized = torch.from_numpy(cv2.resize(rays.numpy(), (320, 210), interpolation=interpolation))
    expected = ray_image(CAMERA.resized(320, 210))
    torch.testing.assert_close(resized[2:-2, 2:-2], expected[2:-2, 2:-2], rtol=0, atol=1e-6)


def test_resized_needs_a_size() -> None:
    with pytest.raises(ValueError, match="size is unknown"):
        Camera(1.0, 1.0, 0.0, 0.0).resized(4, 4)


def test_cropped_and_flipped_agree_with_the_image() -> None:
    rays = ray_image(CAMERA)
    part = CAMERA.cropped(40, 30, 100, 80)
    assert (part.width, part.height) == (100, 80)
    torch.testing.assert_close(ray_image(part), rays[30:110, 40:140], rtol=0, atol=1e-14)
    mirror = CAMERA.flipped()
    own = ray_image(mirror)
    torch.testing.assert_close(own[..., 0], -rays.flip(1)[..., 0], rtol=0, atol=1e-14)
    torch.testing.assert_close(own[..., 1], rays.flip(1)[..., 1], rtol=0, atol=1e-14)
    assert mirror.flipped() == CAMERA


def test_from_fov() -> None:
    camera = Camera.from_fov(200, 100, 90.0)
    assert camera.fx == pytest.approx(100.0, rel=1e-12)
    assert camera.fy == camera.fx
    # The borders of the image, half a pixel outside of the outermost centres, are 90 degrees apart.
    edges = normalize_pixels(torch.tensor([[-0.5, 49.5], [199.5, 49.5]]).double(), camera.K())
    torch.testing.assert_close(edges, torch.tensor([[-1.0, 0], [1, 0]]).double(), rtol=0, atol=1e-12)
    for fov in (0.0, 180.0, -3.0):
        with pytest.raises(ValueError, match="between 0 and 180"):
            Camera.from_fov(200, 100, fov)


def test_from_file(tmp_path) -> None:
    file = tmp_path / "calib.yaml"
    file.write_text("fx: 500\nfy: 520\ncx: 310\ncy: 200\nwidth: 640\nheight: 420\n")
    assert Camera.from_file(file) == CAMERA


def test_pixel_grid() -> None:
    grid = pixel_grid(3, 4, torch.float64)
    assert grid.shape == (2, 3, 4)
    assert grid.dtype == torch.float64
    assert grid[:, 2, 1].tolist() == [1, 2]


def test_homogeneous() -> None:
    assert homogeneous(torch.tensor([[2.0, 3.0]])).tolist() == [[2.0, 3.0, 1.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rays_against_the_inverse_of_K(dtype: torch.dtype) -> None:
    p = torch.rand(2, 50, 2, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 400
    K = torch.stack([CAMERA.K(dtype), CAMERA.resized(320, 200).K(dtype)])
    expected = torch.stack([homogeneous(p[i]) @ torch.linalg.inv(K[i]).T for i in range(2)])
    x = normalize_pixels(p, K)
    rays = pixel_rays(p, K)
    assert x.dtype == rays.dtype == dtype
    torch.testing.assert_close(x, expected[..., :2])
    torch.testing.assert_close(rays, expected / expected.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_project_against_opencv(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    X = rng.uniform([-3, -2, 2], [3, 2, 20], (100, 3))
    T_ba = random_pose(2)
    T_ba[2, 3] = 3.0
    K = CAMERA.K()
    rotation = cv2.Rodrigues(T_ba[:3, :3].numpy())[0]
    expected = cv2.projectPoints(X, rotation, T_ba[:3, 3].numpy(), K.numpy(), None)[0][:, 0]
    ours = project(transform(T_ba.to(dtype), torch.from_numpy(X).to(dtype)), K.to(dtype))
    in_front = transform(T_ba, torch.from_numpy(X))[:, 2] > 0.5
    assert in_front.sum() > 50
    tolerance = 1e-9 if dtype == torch.float64 else 5e-2
    torch.testing.assert_close(
        ours[in_front].double(), torch.from_numpy(expected)[in_front], rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_backproject_and_back(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(3, 40, 2, dtype=dtype, generator=generator) * 400
    depth = torch.rand(3, 40, dtype=dtype, generator=generator) * 30 + 1
    X = backproject(p, depth, CAMERA.K(dtype))
    assert torch.equal(X[..., 2], depth), "depth is along z, not along the ray"
    torch.testing.assert_close(project(X, CAMERA.K(dtype)), p, rtol=1e-5, atol=1e-4)


def test_project_in_the_camera_plane_is_finite_and_spoils_no_neighbour() -> None:
    X = torch.tensor([[1.0, 2, 4], [1, 1, 0], [-1, 1, -1e-9], [0, 0, 0], [1, 2, -4]], requires_grad=True)
    p = project(X, CAMERA.K(torch.float32))
    assert p.isfinite().all()
    assert p[0].tolist() == [310 + 500 / 4, 200 + 520 / 2]
    assert p[4].tolist() == [310 - 500 / 4, 200 - 520 / 2], "behind the camera: the mirrored pixel"
    assert p[2, 0] > 1e6, "x / z of two small negative numbers"
    p.sum().backward()
    assert X.grad.isfinite().all()


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(4)
    p = (torch.rand(2, 5, 2, dtype=torch.float64, generator=generator) * 400).requires_grad_()
    depth = (torch.rand(2, 5, dtype=torch.float64, generator=generator) + 1).requires_grad_()
    K = CAMERA.K().requires_grad_()
    T_ba = random_pose(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, d, K: backproject(p, d, K), (p, depth, K))
    assert torch.autograd.gradcheck(pixel_rays, (p, K))
    X = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator) + 1
    assert torch.autograd.gradcheck(project, (X.requires_grad_(), K))
    assert torch.autograd.gradcheck(transform, (T_ba, X))
    assert torch.autograd.gradcheck(invert_pose, (T_ba,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_transform_and_its_inverse(dtype: torch.dtype) -> None:
    T_ba = torch.stack([random_pose(i, dtype) for i in range(4)])
    X_a = torch.randn(4, 7, 3, dtype=dtype, generator=torch.Generator().manual_seed(6))
    X_b = transform(T_ba, X_a)
    expected = torch.einsum("bij,bnj->bni", T_ba, homogeneous(X_a))[..., :3]
    torch.testing.assert_close(X_b, expected)
    torch.testing.assert_close(transform(T_ba[:, :3], X_a), expected)
    torch.testing.assert_close(transform(invert_pose(T_ba), X_b), X_a)
    torch.testing.assert_close(invert_pose(T_ba), torch.linalg.inv(T_ba))


def test_pose_matrix_keeps_the_graph_and_the_last_row() -> None:
    R = torch.eye(3, dtype=torch.float64).expand(2, 5, 3, 3).contiguous().requires_grad_()
    t = torch.randn(2, 5, 3, dtype=torch.float64).requires_grad_()
    T = pose_matrix(R, t)
    assert T.shape == (2, 5, 4, 4)
    assert (T[..., 3, :] == torch.tensor([0.0, 0, 0, 1])).all()
    T.square().sum().backward()
    torch.testing.assert_close(t.grad, 2 * t.detach())
    torch.testing.assert_close(R.grad, 2 * R.detach())
