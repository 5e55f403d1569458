"""Forward projection against a loop over all parts of all pixels, exact views, and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn.functional import max_pool2d

from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.data.synthetic.paths import PathKind
from trianflow.data.synthetic.world import SceneKind
from trianflow.geometry.camera import Camera, invert_pose, pose_matrix
from trianflow.geometry.splatting import forward_project
from trianflow.geometry.warping import flow_targets

K = Camera.from_fov(12, 9, 80).K()


def pose(rotation: tuple[float, float, float], t: tuple[float, float, float]) -> torch.Tensor:
    R = torch.from_numpy(Rotation.from_rotvec(rotation).as_matrix())
    return pose_matrix(R, torch.tensor(t, dtype=torch.float64))


def bumpy(batch: int = 1, seed: int = 0) -> torch.Tensor:
    """A smooth slope with a box in front of it: `(batch, 1, 9, 12)` float64."""
    g = torch.Generator().manual_seed(seed)
    depth = 6 + torch.linspace(0, 1, 12) + torch.linspace(0, 0.6, 9)[:, None]
    depth = depth + 0.05 * torch.rand(batch, 1, 9, 12, generator=g, dtype=torch.float64)
    depth[..., 3:6, 4:7] *= 0.4
    return depth


def test_against_a_loop_over_all_parts() -> None:
    depth = bumpy(3)
    depth[1, 0, 2, 3], depth[1, 0, 7, 7], depth[2, 0, 0:2] = 0.0, torch.nan, torch.inf
    T = torch.stack([pose((0.02, -0.05, 0.1), t) for t in ((0.6, 0.1, -0.8), (-0.5, 0.2, 0.7), (0.1, -0.4, -2.0))])
    for factor in (1, 2, 3):
        found = forward_project(depth, T, K, factor)
        for b in range(3):
            points, z = projected_by_hand(depth[b, 0].numpy(), T[b].numpy(), K.numpy(), factor)
            np.testing.assert_array_equal(found.valid[b, 0], z > 0)
            np.testing.assert_allclose(found.depth[b, 0], z, rtol=1e-9)
            np.testing.assert_allclose(found.points_a[b], points, atol=1e-9)


def projected_by_hand(depth: np.ndarray, T: np.ndarray, K: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = depth.shape
    R, t = T[:3, :3], T[:3, 3]
    inverse = np.array([[1 / d if d > 0 else 0.0 for d in row] for row in depth])
    padded = np.pad(inverse, 1, mode="edge")
    winner: dict[tuple[int, int], tuple[float, np.ndarray, np.ndarray, float]] = {}
    for v in range(height):
        for u in range(width):
            if not depth[v, u] > 0:
                continue
            around = inverse[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2]
            slope = np.zeros(2)
            if around.max() <= 1.25 * around.min():
                slope[0] = (padded[v + 1, u + 2] - padded[v + 1, u]) / 2
                slope[1] = (padded[v + 2, u + 1] - padded[v, u + 1]) / 2
            # three points of the plane give its normal: normal . X is the inverse depth of a ray X with z = 1
            corners = np.linalg.inv(K) @ np.array([[u, u + 1, u], [v, v, v + 1], [1, 1, 1]])
            normal = np.linalg.solve(corners.T, inverse[v, u] + np.array([0, slope[0], slope[1]]))
            for j in range(factor):
                for i in range(factor):
                    part = np.array([u + (i + 0.5) / factor - 0.5, v + (j + 0.5) / factor - 0.5, 1])
                    ray = np.linalg.inv(K) @ part
                    w = normal @ ray
                    seen = K @ (R @ ray + t * w)
                    if seen[2] <= 1e-6 or w < 0:
                        continue
                    place = int(np.floor(seen[1] / seen[2] + 0.5)), int(np.floor(seen[0] / seen[2] + 0.5))
                    if not (0 <= place[0] < height and 0 <= place[1] < width):
                        continue
                    nearness = w / seen[2]
                    if place not in winner or nearness > winner[place][0]:
                        winner[place] = nearness, normal, part[:2], u + v * 1j
    points, z = np.zeros((height, width, 2)), np.zeros((height, width))
    for (row, column), (nearness, normal, part, pixel) in winner.items():
        ray = np.linalg.inv(K) @ np.array([column, row, 1])
        # X = R' (z ray - t) on the plane: normal . X = 1, of infinite z in the sky
        down, up = normal @ R.T @ ray, 1 + normal @ R.T @ t
        X = R.T @ (ray - t * down / up)
        place = (K @ X / X[2])[:2]
        good = down / up >= 0 and X[2] > 0 and (abs(place - [pixel.real, pixel.imag]) <= 1).all()
        points[row, column] = place if good else part
        nearness = down / up if good else nearness
        z[row, column] = 1 / nearness if nearness > 0 else np.inf
    return points, z


def rendered(kind: SceneKind, path: PathKind) -> RenderedPair:
    scenes = [make_scene(kind, seed, 0, length=40.0) for seed in (1, 2, 3)]
    T_wc = torch.stack([camera_path(path, scene, 2, 10.0, seed) for seed, scene in enumerate(scenes)])
    times = torch.tensor([0.0, 0.1], dtype=torch.float64).expand(3, 2)
    return render_pairs(scenes, T_wc, times, Camera.from_fov(416, 128, 80).K().expand(3, 3, 3), 128, 416)


@pytest.mark.parametrize(("kind", "path", "least"), [("street", "driving", 31.5), ("room", "handheld", 34.5)])
def test_is_the_next_frame_where_it_is_visible(kind: SceneKind, path: PathKind, least: float) -> None:
    pair = rendered(kind, path)
    found = forward_project(pair.depth_a, pair.T_ba.float(), pair.K.float())
    visible = pair.visible_b.bool()
    assert found.valid[visible].float().mean() > 0.998, "no holes in what a sees"
    # what a does not see stays open, but for the half pixel by which nearer surfaces are wider
    hidden = max_pool2d(pair.visible_b, 5, 1, 2) == 0
    assert hidden.sum() > 300
    assert found.valid[hidden].float().mean() < 0.1
    seen = found.valid & visible
    error = (found.render(pair.image_a) - pair.image_b).square()[seen.expand_as(pair.image_b)].mean()
    psnr = -10 * math.log10(float(error))
    assert psnr > least, psnr
    finite = seen & pair.depth_b.isfinite()
    wrong = (found.depth[finite] / pair.depth_b[finite]).log().abs()
    assert wrong.median() < 1e-4
    assert (wrong > 0.05).float().mean() < 0.02
    assert (found.depth.isinf() == pair.depth_b.isinf())[seen].float().mean() > 0.995
    off = (found.points_a - flow_targets(pair.flow_ba)).norm(dim=-1)[seen[:, 0]]
    assert off.median() < 2e-3
    assert (off > 0.7).float().mean() < 0.03


def test_gradients_agree_with_finite_differences() -> None:
    depth = bumpy(2)
    unknown, sky = torch.zeros(2, 2, 1, 9, 12, dtype=torch.bool)
    unknown[1, 0, 0, 0], sky[1, 0, 8] = True, True
    T = torch.stack([pose((0.02, -0.05, 0.1), (0.6, 0.1, -0.8)), pose((0.0, 0.03, 0.0), (0.11, 0.07, 0.5))])
    image = torch.rand(2, 2, 9, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def projected(d: torch.Tensor, T: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = forward_project(d.masked_fill(sky, torch.inf).masked_fill(unknown, 0.0), T, K)
        return found.depth.masked_fill(found.depth.isinf(), 0.0), found.render(x)

    assert (projected(depth, T, image)[0] > 0).float().mean() > 0.5
    inputs = (depth.requires_grad_(), T.requires_grad_(), image.requires_grad_())
    # steps so small that the same parts stay in front
    assert torch.autograd.gradcheck(projected, inputs, eps=1e-7, atol=1e-4)


def test_gradients_are_finite_and_reach_what_is_seen() -> None:
    depth = bumpy().requires_grad_()
    T = pose((0.0, 0.0, 0.0), (2.0, 0.0, 0.0))[None].requires_grad_()
    found = forward_project(depth, T, K)
    found.depth.sum().backward()
    assert depth.grad is not None
    assert depth.grad.isfinite().all()
    assert T.grad is not None
    assert T.grad.isfinite().all()
    # moved by 2 to the right, the right of a is out of view
    assert (depth.grad[..., -1] == 0).all()
    assert depth.grad[..., 3:6, 4:7].sum() > 5


def test_the_nearest_surface_stays() -> None:
    depth = torch.full((1, 1, 9, 12), 10.0, dtype=torch.float64)
    depth[..., 3:6, 2:4] = 2.0
    labels = (depth[:, 0] == 2).long()
    shift = 4 * 2.0 / float(K[0, 0])  # four pixels for the near, less than one for the far
    found = forward_project(depth, pose((0, 0, 0), (shift, 0, 0))[None], K)
    moved = torch.zeros_like(labels)
    moved[:, 3:6, 6:8] = 1
    assert torch.equal(found.carry(labels, -1) == 1, moved.bool())
    torch.testing.assert_close(found.depth[0, 0, 3:6, 6:8], torch.full((3, 2), 2.0, dtype=torch.float64))
    assert (found.carry(labels, -1)[0, 3:6, 3:4] == -1).all(), "what it hid before is a hole"
    alone = forward_project(torch.where(labels[:, None] == 1, depth, 0.0), pose((0, 0, 0), (shift, 0, 0))[None], K)
    assert torch.equal(alone.valid[:, 0], moved.bool())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standing_still_changes_nothing(dtype: torch.dtype) -> None:
    depth = bumpy(2).to(dtype)
    depth[..., 0, :] = torch.inf
    image = torch.rand(2, 3, 9, 12, dtype=dtype)
    found = forward_project(depth, torch.eye(4, dtype=dtype).expand(2, 4, 4), K.to(dtype))
    assert found.valid.all()
    assert found.depth.dtype == dtype
    torch.testing.assert_close(found.depth, depth)
    torch.testing.assert_close(found.render(image), image, atol=1e-5, rtol=0)


def test_the_sky_turns_and_does_not_come_nearer() -> None:
    sky = torch.full((1, 1, 9, 12), torch.inf, dtype=torch.float64)
    turn = pose((0.0, 0.05, 0.0), (0.0, 0.0, 0.0))
    moved = turn.clone()
    moved[:3, 3] = torch.tensor([5.0, 1.0, -7.0])
    a, b = forward_project(sky, turn[None], K), forward_project(sky, moved[None], K)
    torch.testing.assert_close(a.points_a, b.points_a)
    assert (a.depth[a.valid] == torch.inf).all()


def test_there_and_back_is_where_it_was() -> None:
    T = pose((0.01, -0.02, 0.03), (0.2, 0.1, -0.3))
    depth = 6 + torch.zeros(1, 1, 9, 12, dtype=torch.float64)
    there = forward_project(depth, T[None], K, 3)
    back = forward_project(there.depth, invert_pose(T)[None], K, 3)
    inner = back.valid.clone()
    inner[..., :3, :] = inner[..., -3:, :] = inner[..., :3] = inner[..., -3:] = False
    assert inner.sum() > 8
    torch.testing.assert_close(back.depth[inner], depth[inner], rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, -3.0, math.nan])
def test_nothing_known_is_nothing_seen(value: float) -> None:
    depth = torch.full((1, 1, 9, 12), value, dtype=torch.float64).requires_grad_()
    found = forward_project(depth, torch.eye(4, dtype=torch.float64)[None], K)
    assert not found.valid.any()
    assert (found.depth == 0).all()
    assert (found.points_a == 0).all()
    (found.depth.sum() + found.render(torch.ones(1, 1, 9, 12, dtype=torch.float64)).sum()).backward()
    assert depth.grad is not None
    assert (depth.grad == 0).all()


def test_what_is_behind_is_not_seen() -> None:
    depth = torch.full((1, 1, 9, 12), 2.0, dtype=torch.float64)
    depth[..., 6:] = 8.0
    found = forward_project(depth.requires_grad_(), pose((0, 0, 0), (0, 0, -4.0))[None], K)
    assert found.valid.any()
    assert (found.depth[found.valid] > 3.9).all()
    found.depth.sum().backward()
    assert depth.grad is not None
    assert depth.grad.isfinite().all()
    assert (depth.grad[..., :6] == 0).all()
    exactly_there = forward_project(depth.detach(), pose((0, 0, 0), (0, 0, -2.0))[None], K)
    assert exactly_there.depth.isfinite().all()


def test_items_do_not_see_each_other() -> None:
    depth, T = bumpy(3), torch.stack([pose((0, 0.1 * i, 0), (0.3, 0.1 * i, -0.4)) for i in range(3)])
    alone = forward_project(depth[1:2], T[1:2], K)
    depth[0], T[2] = torch.nan, torch.nan
    together = forward_project(depth, T, K)
    for name in ("points_a", "depth", "valid"):
        assert torch.equal(getattr(together, name)[1:2], getattr(alone, name)), name
    assert not together.valid[0].any()
    assert not together.valid[2].any()
