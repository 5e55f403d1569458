"""Depth, flow, visibility and instances against closed forms and brute force."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from synthetic_worlds import CAMERA, brute_force, driving_pair, scene_of, still_pair

from trianflow.data.synthetic import SceneKind, camera_path, make_scene, render, render_pairs
from trianflow.data.synthetic.raycast import cast, surface
from trianflow.data.synthetic.scene import BOX, CYLINDER, ELLIPSOID
from trianflow.data.synthetic.views import make_views
from trianflow.geometry.camera import (
    Camera,
    backproject,
    invert_pose,
    normalize_pixels,
    pixel_grid,
    project,
    transform,
)

_EYE = torch.eye(4, dtype=torch.float64)[None]
_NOW = torch.zeros(1, dtype=torch.float64)


def _rays(camera=CAMERA):
    grid = pixel_grid(camera.height, camera.width, torch.float64).flatten(1).T
    return normalize_pixels(grid, camera.K()).view(camera.height, camera.width, 2).unbind(-1)


def test_box_depth_is_that_of_its_front_face():
    scene = scene_of(lambda b: b.add(BOX, (2.0, 1.0, 2.0), 0.5, 6.0, -0.5))
    depth = render(scene, _EYE, _NOW, CAMERA).depth[0, 0]
    x, y = _rays()
    inside = ((x * 5 - 0.5).abs() < 0.99) & ((y * 5).abs() < 0.49)
    assert inside.sum() > 100
    torch.testing.assert_close(depth[inside], torch.full_like(depth[inside], 5.0), rtol=1e-5, atol=0)
    assert depth[0].isinf().all()


def test_ground_depth_is_height_over_slope():
    scene = scene_of(lambda b: b.add(BOX, (4000.0, 1.0, 4000.0), 0, 0, -2.5))
    depth = render(scene, _EYE, _NOW, CAMERA).depth[0, 0].double()
    _, y = _rays()
    below = y > 0.01
    torch.testing.assert_close(depth[below], 1.5 / y[below], rtol=1e-5, atol=0)
    assert depth[y < 0].isinf().all()


@pytest.mark.parametrize("shape", [CYLINDER, ELLIPSOID])
def test_round_depth_solves_the_quadratic(shape):
    scene = scene_of(lambda b: b.add(shape, (2.0, 2.0, 2.0), 0, 5.0, -1.0))
    depth = render(scene, _EYE, _NOW, CAMERA).depth[0, 0].double()
    x, y = _rays()
    a, b = 1 + x**2 + (y**2 if shape == ELLIPSOID else 0), -5.0
    z = (-b - (b * b - a * 24).clamp(min=0).sqrt()) / a
    hit = (b * b - a * 24 > 0.02) & ((z * y).abs() < 0.98)
    assert hit.sum() > 200
    torch.testing.assert_close(depth[hit], z[hit], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("kind", "seed"),
    [("street", 0), ("street", 3), ("village", 0), ("country", 0), ("office", 4), ("room", 1), ("room", 2)],
)
def test_tiles_find_what_brute_force_finds(kind, seed):
    scene = make_scene(kind, seed, 2, length=30.0)
    T_wc = camera_path("handheld", scene, 5, 2.0, seed)[::2]
    times = torch.arange(3.0)
    views = make_views([scene], [T_wc], [times], CAMERA.K().expand(3, 3, 3), CAMERA.height, CAMERA.width)
    u, v = views.pixels()
    column = cast(views)
    depth = surface(views, column, u, v).depth
    best, expected = brute_force(views, u, v)
    torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-4)
    assert (column == best).float().mean() > 0.998  # surfaces that touch may tie


@pytest.mark.parametrize("kind", get_args(SceneKind))
def test_static_flow_is_projection_of_backprojected_depth(kind):
    pair = driving_pair(kind, 1, moving=2)
    grid = pixel_grid(CAMERA.height, CAMERA.width, torch.float64).flatten(1).T
    K = CAMERA.K()
    for depth, flow, instance, T in (
        (pair.depth_a, pair.flow_ab, pair.instance_a, pair.T_ba[0]),
        (pair.depth_b, pair.flow_ba, pair.instance_b, invert_pose(pair.T_ba[0])),
    ):
        z = depth.flatten().double()
        X = transform(T, backproject(grid, z.clamp(max=1e9), K))
        expected = project(X, K) - grid
        use = (instance.flatten() == 0) & (X[:, 2] > 0.1)
        assert use.float().mean() > 0.5
        error = (flow[0].flatten(1).T.double() - expected)[use].norm(dim=1)
        assert (error / (1 + expected[use].norm(dim=1) / 100)).max() < 1e-3


@pytest.mark.parametrize("kind", get_args(SceneKind))
def test_forward_and_backward_flow_cancel_where_visible(kind):
    pair = driving_pair(kind, 2, moving=1)
    grid = pixel_grid(CAMERA.height, CAMERA.width)
    there = (grid + pair.flow_ab[0]).permute(1, 2, 0)
    size = torch.tensor([CAMERA.width - 1, CAMERA.height - 1])
    back = torch.nn.functional.grid_sample(
        pair.flow_ba, there[None] / size * 2 - 1, align_corners=True, padding_mode="border"
    )
    error = (pair.flow_ab + back)[0].norm(dim=0)[pair.visible_a[0, 0] > 0]
    assert error.median() < 0.02
    assert (error < 0.5).float().mean() > 0.93  # the rest mixes two surfaces in the interpolation


@pytest.mark.parametrize(("kind", "seed"), [("street", 0), ("street", 4), ("room", 2)])
def test_visibility_agrees_with_casting_every_primitive(kind, seed):
    camera = Camera.from_fov(160, 96, 75.0)
    scene = make_scene(kind, seed, 2, length=30.0)
    T_wc = camera_path("driving", scene, 3, 5.0, seed)[::2]
    times = torch.tensor([0.0, 0.4])
    pair = render_pairs([scene], T_wc[None], times[None], camera.K()[None], camera.height, camera.width)
    views = make_views([scene], [T_wc], [times], camera.K().expand(2, 3, 3), camera.height, camera.width)
    u, v = views.pixels()
    f = torch.arange(2).repeat_interleave(camera.width * camera.height)
    column = cast(views)
    depth = surface(views, column, u, v).depth
    flow = torch.stack([pair.flow_ab[0], pair.flow_ba[0]]).transpose(0, 1).flatten(1)
    x, y = u + flow[0], v + flow[1]
    _, nearest = brute_force(views, x, y, 1 - f)
    # depth of the same surface point in the other camera
    X_c = (
        torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones_like(u)], 1) * depth[:, None]
    )
    T = views.T_cl.flip(0).flatten(0, 1)[column] @ invert_pose(views.T_cl.flatten(0, 1)[column])
    z = (T[:, :3, :3] @ X_c[..., None].double())[:, 2, 0] + T[:, 2, 3]
    inside = (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)
    sky = depth.isinf()
    expected = inside & torch.where(sky, nearest.isinf(), (z > 0) & (nearest > z * (1 - 1e-3)))
    visible = torch.cat([pair.visible_a.flatten(), pair.visible_b.flatten()]) > 0
    assert 0.3 < visible.float().mean() < 0.99
    assert (visible == expected).float().mean() > 0.998


def test_moving_objects_alone_leave_the_rigid_flow():
    scene = make_scene("street", 5, 4, length=40.0)
    T_wc = camera_path("driving", scene, 2, 5.0, 0)
    times = torch.tensor([0.0, 0.2])
    size = CAMERA.K()[None], CAMERA.height, CAMERA.width
    moving = render_pairs([scene], T_wc[None], times[None], *size)
    frozen = render_pairs([scene.without_motion()], T_wc[None], times[None], *size)
    mask = moving.instance_a[0] > 0
    difference = (moving.flow_ab - frozen.flow_ab)[0].norm(dim=0)
    assert mask.sum() > 50
    assert difference[~mask].max() == 0
    assert difference[mask].median() > 0.3


def test_standing_gives_no_flow_and_rotation_ignores_depth():
    still = still_pair("standing")
    assert still.flow_ab.abs().max() < 1e-4
    assert still.visible_a.min() == 1
    turned = still_pair("rotation")
    grid = pixel_grid(CAMERA.height, CAMERA.width, torch.float64).flatten(1).T
    K = CAMERA.K()
    expected = project(transform(turned.T_ba[0], backproject(grid, torch.ones(len(grid)).double(), K)), K) - grid
    assert expected.norm(dim=1).mean() > 0.3
    torch.testing.assert_close(turned.flow_ab[0].flatten(1).T.double(), expected, rtol=1e-4, atol=1e-3)
