"""Loops in rendered worlds: a place seen again is found, with pose and unit; places that are only alike are not."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic import make_scene, render
from trianflow.data.synthetic.scene import upright_pose
from trianflow.geometry.camera import Camera
from trianflow.odometry.loops import LoopCloser, _depth_at
from trianflow.odometry.pose_graph import optimise_pose_graph

CAMERA = Camera.from_fov(320, 192, 80.0)


@dataclass(frozen=True)
class View:
    image: np.ndarray
    T_wc: np.ndarray
    p: np.ndarray
    depth: np.ndarray


def views_along(scene, s):
    """The views of a camera at arc lengths `s` of the scene's route, with points of known depth, 2 % off."""
    position, heading = scene.route.at(torch.as_tensor(s))
    T_wc = upright_pose(position[:, 0], torch.full((len(s),), -scene.eye_height), position[:, 1], heading)
    rng, views = np.random.default_rng(0), []
    for T in T_wc:
        frame = render(scene, T[None], torch.zeros(1), CAMERA)
        p = np.stack([rng.integers(0, CAMERA.width, 1500), rng.integers(0, CAMERA.height, 1500)], 1)
        depth = frame.depth[0, 0].numpy()[p[:, 1], p[:, 0]] * np.exp(rng.normal(0, 0.02, 1500))
        image = (frame.image[0].permute(1, 2, 0) * 255).round().byte().numpy()
        views.append(View(image, T.numpy(), p.astype(np.float64), depth))
    return views


def run(views, T_wc, units):
    """A closer that was offered all views, at poses and in units that need not be true."""
    closer, told = LoopCloser(CAMERA.K()), []
    for i, (view, T, unit) in enumerate(zip(views, T_wc, units)):
        told += closer.add(i, view.image, T, view.p, unit * view.depth)
    assert told == closer.loops
    return closer


@pytest.fixture(scope="module")
def room():
    """One and a half times around a room."""
    scene = make_scene("room", 1)
    return views_along(scene, (np.arange(52) / 34.4 * scene.route.length) % scene.route.length)


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.0), (1.0, 1.3), (250.0, 190.0)])
def test_a_place_seen_again_is_found_with_its_pose_and_unit(room, first, second):
    """The unit changes on the way."""
    truth = np.stack([view.T_wc for view in room])
    units = np.where(np.arange(52) < 26, first, second)
    T_wc = truth.copy()
    steps = np.diff(truth[:, :3, 3], axis=0) * units[1:, None]
    T_wc[1:, :3, 3] = T_wc[0, :3, 3] + steps.cumsum(0)
    closer = run(room, T_wc, units)
    assert len(closer.loops) >= 5
    for loop in closer.loops:
        a, b = closer.indices[loop.a], closer.indices[loop.b]
        T_ba = np.linalg.inv(truth[b]) @ truth[a]
        scale = np.cbrt(np.linalg.det(loop.S_ba[:3, :3]))
        assert scale == pytest.approx(units[b] / units[a], rel=0.05)
        turn = Rotation.from_matrix(loop.S_ba[:3, :3] / scale @ T_ba[:3, :3].T).magnitude()
        assert turn < np.radians(1)
        assert np.linalg.norm(loop.S_ba[:3, 3] / units[b] - T_ba[:3, 3]) < 0.1
    rows = closer.indices
    graph = optimise_pose_graph(T_wc[rows], closer.loops)
    assert graph.kept.all()
    if first != second:
        ends = [T[-1][:3, 3] - T[0][:3, 3] for T in (T_wc[rows], graph.S_wc, truth[rows])]
        before, after = (np.linalg.norm(end / first - ends[2]) for end in ends[:2])
        assert after < before / 3  # not all: the graph spreads a change that came at once over the whole way


def test_places_of_one_street_are_told_apart():
    """The poses say that every place is passed again after 30 frames, the pictures do not; until one does."""
    street = views_along(make_scene("street", 3, length=260.0), [*np.arange(44) * 5.5, 27.0, 32.5, 38.0])
    angle = torch.arange(len(street)) * 2 * np.pi / 30
    T_wc = upright_pose(20 * angle.cos(), torch.zeros(len(street)), -20 * angle.sin(), np.pi + angle).numpy()
    closer = run(street, T_wc, np.ones(len(street)))
    assert closer.indices == list(range(len(street)))
    assert closer.loops
    assert {(loop.a, loop.b) for loop in closer.loops} <= {(a, b) for b in (44, 45, 46) for a in (b - 39, b - 40)}


def test_what_cannot_be_a_key_frame_is_none():
    rng = np.random.default_rng(0)
    p, depth = rng.uniform(0, [319, 191], (100, 2)), rng.uniform(5, 10, 100)
    image, blank = rng.integers(0, 255, (192, 320), dtype=np.uint8), np.zeros((192, 320, 3), np.uint8)
    closer = LoopCloser(CAMERA.K())
    for picture, points, depths in (
        (blank, p, depth),
        (image, p[:0], depth[:0]),
        (image, p, np.full(100, np.nan)),
    ):
        assert closer.add(0, picture, np.eye(4), points, depths) == []
        assert closer.indices == []
    on_a_line = np.stack([np.arange(100.0), np.arange(100.0)], 1)
    assert closer.add(1, image, np.eye(4), on_a_line, depth) == []
    near = np.eye(4)
    near[0, 3] = 0.5
    assert closer.add(2, image, near, p, depth) == []
    assert closer.indices == [1]


def test_a_camera_that_goes_on_over_one_picture_closes_no_loop():
    rng = np.random.default_rng(0)
    p, depth = rng.uniform(0, [319, 191], (400, 2)), rng.uniform(5, 10, 400)
    image, T = rng.integers(0, 255, (192, 320), dtype=np.uint8), np.eye(4)
    closer = LoopCloser(CAMERA.K())
    for i in range(30):
        assert closer.add(i, image, T, p, depth) == []
        T[2, 3] += 5
    assert len(closer.indices) == 30


def test_depth_between_points_is_exact_on_a_plane_and_unknown_across_a_jump():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0, 100, (300, 2)), rng.uniform(20, 80, (50, 2))

    def plane(x):
        return 1 / (0.05 + x @ [0.001, 0.002])

    np.testing.assert_allclose(_depth_at(q, p, plane(p)), plane(q), rtol=1e-6)
    assert np.isnan(_depth_at(q - 200, p, plane(p))).all()
    step = np.where(p[:, 0] < 50, 5.0, 10.0)
    found = _depth_at(q, p, step)
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], np.where(q[known, 0] < 50, 5.0, 10.0), rtol=1e-6)
    assert 0.5 < known.mean() < 1
