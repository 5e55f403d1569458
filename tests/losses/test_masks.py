"""Edge, overlap and blank masks against loops over pixels, by hand, and on the scenes of the paper's figures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from tests.data.synthetic.synthetic_worlds import pair_of, scene_of
from trianflow.data.synthetic import RenderedPair
from trianflow.data.synthetic.scene import BOX, CYLINDER
from trianflow.geometry.camera import Camera, pose_matrix
from trianflow.geometry.sampson import rotation_exp
from trianflow.losses.masks import ViewMasks, multi_mask

K = torch.tensor([[20.0, 0, 11.5], [0, 22, 7.0], [0, 0, 1]], dtype=torch.float64)


def landing(depth: np.ndarray, T: np.ndarray) -> list[tuple[float, float, float] | None]:
    """u, v and depth in the other camera of every pixel, row by row; None where that is outside."""
    H, W = depth.shape
    k = K.numpy()
    found: list[tuple[float, float, float] | None] = []
    for row in range(H):
        for column in range(W):
            X = T[:3, :3] @ (np.linalg.inv(k) @ [column, row, 1.0] * depth[row, column]) + T[:3, 3]
            if not (depth[row, column] > 0 and X[2] > 0):
                found.append(None)
                continue
            u, v = (round(value * 1024) / 1024 for value in (k @ X)[:2] / X[2])
            found.append((u, v, X[2]) if 0 <= u <= W - 1 and 0 <= v <= H - 1 else None)
    return found


def brute_force(depth_a: np.ndarray, depth_b: np.ndarray, T_ba: np.ndarray, rounds: int) -> list[np.ndarray]:
    """Edge, overlap and blank of a, then of b, a pixel at a time."""
    H, W = depth_a.shape
    landings = [landing(depth_a, T_ba), landing(depth_b, np.linalg.inv(T_ba))]
    masks = [[np.ones(H * W, dtype=bool) for _ in range(3)] for _ in range(2)]
    for view in range(2):
        masks[view][0] = np.array([x is not None for x in landings[view]])
    for _ in range(rounds):
        used = [np.logical_and.reduce(view) for view in masks]
        for view in range(2):
            nearest: dict[tuple[int, int], float] = {}
            hit = np.zeros((H, W), dtype=bool)
            for n, where in enumerate(landings[view]):
                if where is None or not used[view][n]:
                    continue
                u, v, z = where
                cell = math.floor(u), math.floor(v)
                nearest[cell] = min(z, nearest.get(cell, math.inf))
                for column in (cell[0], cell[0] + 1):
                    for row in (cell[1], cell[1] + 1):
                        if (1 - abs(u - column)) * (1 - abs(v - row)) > 0:
                            hit[row, column] = True
            for n, where in enumerate(landings[view]):
                if where is not None and used[view][n]:
                    u, v, z = where
                    masks[view][1][n] &= z == nearest[math.floor(u), math.floor(v)]
            masks[1 - view][2] &= hit.ravel()
    return [mask.reshape(H, W) for view in masks for mask in view]


def parts(a: ViewMasks, b: ViewMasks) -> list[torch.Tensor]:
    return [a.edge, a.overlap, a.blank, b.edge, b.overlap, b.blank]


def random_case(seed: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two random depth maps with unknown pixels, and a random motion."""
    g = torch.Generator().manual_seed(seed)
    depth = 1 + 4 * torch.rand(2, batch, 1, 16, 24, generator=g, dtype=torch.float64)
    depth[torch.rand(depth.shape, generator=g) < 0.03] = 0.0
    depth[0, :, :, 3, 4] = torch.nan
    w, t = 0.1 * torch.randn(batch, 3, generator=g).double(), 0.4 * torch.randn(batch, 3, generator=g).double()
    return depth[0], depth[1], pose_matrix(rotation_exp(w), t)


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_every_pixel_as_by_brute_force(seed: int, rounds: int) -> None:
    depth_a, depth_b, T_ba = random_case(seed)
    expected = brute_force(depth_a[0, 0].numpy(), depth_b[0, 0].numpy(), T_ba[0].numpy(), rounds)
    for ours, theirs in zip(parts(*multi_mask(depth_a, depth_b, T_ba, K, rounds)), expected):
        assert np.array_equal(ours[0, 0].numpy(), theirs)
        assert 0 < theirs.sum() < theirs.size


def test_items_of_a_batch_are_independent() -> None:
    depth_a, depth_b, T_ba = random_case(9, batch=3)
    depth_a[1] = 0
    whole = parts(*multi_mask(depth_a, depth_b, T_ba, K))
    for i in range(3):
        single = parts(*multi_mask(depth_a[i : i + 1], depth_b[i : i + 1], T_ba[i : i + 1], K))
        assert all(torch.equal(x[i : i + 1], y) for x, y in zip(whole, single))
    assert not whole[0][1].any()
    assert not whole[5][1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_camera_at_rest_masks_nothing(dtype: torch.dtype) -> None:
    depth = (1 + torch.rand(1, 1, 128, 416)).to(dtype)
    depth[..., :30, :] = torch.inf
    intrinsics = Camera.from_fov(416, 128, 80.0).K(dtype)
    T = pose_matrix(rotation_exp(torch.full((1, 3), 1e-7, dtype=dtype)), torch.zeros(1, 3, dtype=dtype))
    a, b = multi_mask(depth, depth, T, intrinsics)
    assert a.mask.all()
    assert b.mask.all()


def test_a_shift_by_hand() -> None:
    """The camera moves right: the wall goes three pixels to the left, a pole of one pixel before it six."""
    depth = torch.full((1, 1, 5, 24), 4.0, dtype=torch.float64)
    depth_a, depth_b = depth.clone(), depth.clone()
    depth_a[..., 12], depth_b[..., 6] = 2.0, 2.0
    T_ba = pose_matrix(torch.eye(3)[None].double(), torch.tensor([[-3 * 4 / 20, 0, 0]], dtype=torch.float64))
    a, b = multi_mask(depth_a, depth_b, T_ba, K, 1)

    def columns(mask: torch.Tensor) -> list[int]:
        assert (mask == mask[..., :1, :]).all()
        return (~mask[0, 0, 0]).nonzero()[:, 0].tolist()

    assert columns(a.edge) == [0, 1, 2]
    assert columns(b.edge) == [21, 22, 23]
    assert columns(a.overlap) == [9]
    assert columns(b.overlap) == [9]
    assert columns(a.blank) == [0, 1, 2, 9]
    assert columns(b.blank) == [9, 21, 22, 23]


def seen_from(build, x: float, z: float = 0.0, yaw: float = 0.0) -> RenderedPair:
    """A scene of primitives seen from the origin (a) and from a place in metres with a heading in radians (b)."""
    T_wc = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    T_wc[1] = pose_matrix(rotation_exp(torch.tensor([0.0, yaw, 0.0]).double()), torch.tensor([x, 0.0, z]).double())
    return pair_of(scene_of(build), T_wc, camera=Camera.from_fov(192, 96, 70.0))


def wall_and_ground(builder) -> None:
    builder.add(BOX, (60, 12, 0.4), 0, 14, -3, texture="facade_brick")
    builder.add(BOX, (60, 0.2, 40), 0, 8, -1.7, texture="asphalt")


def car(builder) -> None:
    """Figure 3: a car before a background, passed on one side and approached."""
    wall_and_ground(builder)
    builder.add(BOX, (1.8, 1.3, 3.6), 0.6, 6.5, -1.5, texture="metal")


def car_at_the_side(builder) -> None:
    """Figure 5: background that only the first camera sees is hidden by that side of a car that only the other sees."""
    wall_and_ground(builder)
    builder.add(BOX, (0.8, 1.3, 4.0), 1.5, 6.5, -1.5, texture="metal")


def billboard(builder) -> None:
    """Figure 7: thin things, of which a fast camera sees the two sides in turn."""
    wall_and_ground(builder)
    builder.add(BOX, (0.15, 2.2, 2.5), 0.9, 4.5, -1.5, texture="planks")
    builder.add(CYLINDER, (0.25, 3, 0.25), -1.4, 5.0, -1.5, texture="metal")


@pytest.mark.parametrize(
    ("build", "view", "repeating_helps", "remaining"),
    [
        pytest.param(car, (1.0, 0.8), False, 0.01, id="figure 3"),
        pytest.param(car_at_the_side, (3.0, 0.0, -0.35), True, 0.02, id="figure 5"),
        pytest.param(billboard, (2.2, 0.6, -0.2), True, 0.15, id="figure 7"),
    ],
)
def test_every_mask_leaves_fewer_mismatched_pixels(build, view, repeating_helps: bool, remaining: float) -> None:
    """Of the pixels that the other view does not see, by the exact truth of both directions."""
    truth = seen_from(build, *view)
    once, thrice = (multi_mask(truth.depth_a, truth.depth_b, truth.T_ba.float(), truth.K.float(), n) for n in (1, 3))
    seen = [x.bool() for x in (truth.visible_a, truth.visible_b)]
    hidden = sum(int((~x).sum()) for x in seen)

    def left(masks: list[torch.Tensor]) -> float:
        return sum(int((mask & ~x).sum()) for mask, x in zip(masks, seen)) / hidden

    shares = [
        1.0,
        left([view.edge for view in once]),
        left([view.edge & view.overlap for view in once]),
        left([view.mask for view in once]),
    ]
    assert all(after < before for before, after in itertools.pairwise(shares))
    repeated = left([view.mask for view in thrice])
    assert repeated < shares[-1] if repeating_helps else repeated == shares[-1]
    assert repeated < remaining
    assert min(float((view.mask & x).sum() / x.sum()) for view, x in zip(thrice, seen)) > 0.8
