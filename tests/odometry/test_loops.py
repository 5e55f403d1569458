"""Loops in rendered worlds: a place seen again is found, with pose and unit; places that are only alike are not."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic import SyntheticSequence, make_scene, render
from trianflow.data.synthetic.scene import upright_pose
from trianflow.geometry.camera import Camera
from trianflow.odometry.loops import LoopCloser, _depth_at
from trianflow.odometry.pose_graph import optimise_pose_graph
from trianflow.trajectory import Trajectory

CAMERA = Camera.from_fov(320, 192, 80.0)


@dataclass(frozen=True)
class View:
    image: np.ndarray
    T_wc: np.ndarray
    p: np.ndarray
    depth: np.ndarray


def views_of(scene, T_wc, times):
    """What a camera sees at poses `(N, 4, 4)` and times `(N,)`, with points of known depth, 2 % off."""
    rng, views = np.random.default_rng(0), []
    for T, t in zip(T_wc, times):
        frame = render(scene, T[None], t[None], CAMERA)
        p = np.stack([rng.integers(0, CAMERA.width, 1500), rng.integers(0, CAMERA.height, 1500)], 1)
        depth = frame.depth[0, 0].numpy()[p[:, 1], p[:, 0]] * np.exp(rng.normal(0, 0.02, 1500))
        image = (frame.image[0].permute(1, 2, 0) * 255).round().byte().numpy()
        views.append(View(image, T.numpy(), p.astype(np.float64), depth))
    return views


def views_along(scene, s):
    """The views of a camera at arc lengths `s` of the scene's route."""
    position, heading = scene.route.at(torch.as_tensor(s))
    T_wc = upright_pose(position[:, 0], torch.full((len(s),), -scene.eye_height), position[:, 1], heading)
    return views_of(scene, T_wc, torch.zeros(len(s)))


def run(views, T_wc, units, measured=False):
    """A closer that was offered all views, at poses and in units that need not be true."""
    closer, told = LoopCloser(CAMERA.K()), []
    for i, (view, T, unit) in enumerate(zip(views, T_wc, units)):
        told += closer.add(i, view.image, T, view.p, unit * view.depth, 1 / unit if measured else None)
    assert told == closer.loops
    return closer


def in_units(truth, units):
    """Poses whose steps are measured in the unit of their end."""
    T_wc = truth.copy()
    steps = np.diff(truth[:, :3, 3], axis=0) * units[1:, None]
    T_wc[1:, :3, 3] = T_wc[0, :3, 3] + steps.cumsum(0)
    return T_wc


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
    T_wc = in_units(truth, units)
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


def turned(truth, angle):
    """Poses that turn by `angle` radians more at every step."""
    T_wc, turn = truth.copy(), np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, angle, 0]).as_matrix()
    for i in range(1, len(truth)):
        T_wc[i] = T_wc[i - 1] @ turn @ np.linalg.inv(truth[i - 1]) @ truth[i]
    return T_wc


def end_error(closed, truth):
    """Metres that the last pose is off, the first ones being laid on each other."""
    T_0e, T_0t = (np.linalg.inv(T_wc[0]) @ T_wc[-1] for T_wc in (closed, truth))
    return np.linalg.norm(T_0e[:3, 3] - T_0t[:3, 3])


def test_a_trajectory_in_metres_is_closed_and_stays_in_metres(room):
    truth = np.stack([view.T_wc for view in room])
    units = np.where(np.arange(52) < 26, 250.0, 190.0)
    closer = run(room, in_units(truth, units), units)
    raw = Trajectory(np.arange(52.0), turned(truth, 0.006))
    closed = closer.closed(raw, metres=1 / units, hold_scale=True)
    assert closed.kept.all()
    assert (closed.rows[:, 1] - closed.rows[:, 0] >= 20).all()
    assert end_error(closed.trajectory.T_wc, truth) < end_error(raw.T_wc, truth) / 5
    assert closed.trajectory.path_length == pytest.approx(raw.path_length, rel=0.02)


def test_measured_depths_are_metres_whatever_is_learnt_later_of_the_unit(room):
    """Here a fifth more of them than was believed when the places were seen."""
    truth = np.stack([view.T_wc for view in room])
    units = np.where(np.arange(52) < 26, 250.0, 190.0)
    raw = Trajectory(np.arange(52.0), turned(truth, 0.006))
    closer = run(room, in_units(truth, units), units, measured=True)
    closed = closer.closed(raw, metres=1.2 / units, hold_scale=True)
    assert closed.kept.all()
    assert end_error(closed.trajectory.T_wc, truth) < end_error(raw.T_wc, truth) / 5


def test_where_the_odometry_was_lost_the_way_may_break(room):
    truth = np.stack([view.T_wc for view in room])
    broken = truth.copy()
    J = np.eye(4)
    J[:3, :3] = Rotation.from_rotvec([0, 0.4, 0]).as_matrix()
    broken[30:] = truth[30] @ J @ np.linalg.inv(truth[30]) @ truth[30:]
    closer = run(room, broken, np.ones(52))
    told, untold = (closer.closed(Trajectory(np.arange(52.0), broken), breaks) for breaks in ({30}, ()))
    off = [np.linalg.norm(x.trajectory.positions - truth[:, :3, 3], axis=1).max() for x in (told, untold)]
    assert off[0] < 0.15
    assert off[0] < off[1] / 2


def test_without_a_loop_there_is_nothing_to_close():
    assert LoopCloser(CAMERA.K()).closed(Trajectory(np.arange(1.0), np.eye(4)[None])) is None


def drive(kind, frames, every):
    """Views along a drive through a town."""
    sequence = SyntheticSequence.drive(kind, CAMERA, seed=1, frames=frames)
    rows = torch.arange(0, frames, every)
    return views_of(sequence.scene, sequence.T_wc[rows], rows / sequence.fps)


@pytest.mark.slow
def test_a_drive_that_returns_is_closed():
    views = drive("loop", 750, 5)
    truth = np.stack([view.T_wc for view in views])
    units = 1.001 ** np.arange(len(views))
    T_wc = turned(in_units(truth, units), 0.0005)
    closer = run(views, T_wc, units)
    closed = closer.closed(Trajectory(np.arange(len(views)), T_wc))
    assert closed.kept.sum() >= 5
    centres = truth[closed.rows, :3, 3]
    assert np.linalg.norm(centres[:, 0] - centres[:, 1], axis=1).max() < 10
    assert end_error(closed.trajectory.T_wc, truth) < end_error(T_wc, truth) / 5


@pytest.mark.slow
def test_a_drive_that_does_not_return_has_no_loop():
    """Not even where its poses say that every place is passed again after 30 key frames."""
    views = drive("open", 600, 6)
    angle = torch.arange(len(views)) * 2 * np.pi / 30
    circle = upright_pose(20 * angle.cos(), torch.zeros(len(views)), -20 * angle.sin(), np.pi + angle).numpy()
    closer = run(views, circle, np.ones(len(views)))
    assert len(closer.indices) == len(views)
    assert closer.loops == []


def test_places_of_one_street_are_told_apart():
    """By its poses every place is passed again after 30 frames, by the pictures none is, until one and the next are."""
    street = views_along(make_scene("street", 3, length=260.0), [*np.arange(44) * 5.5, 27.0, 32.5, 38.0])
    angle = torch.arange(len(street)) * 2 * np.pi / 30
    T_wc = upright_pose(20 * angle.cos(), torch.zeros(len(street)), -20 * angle.sin(), np.pi + angle).numpy()
    closer = run(street, T_wc, np.ones(len(street)))
    assert closer.indices == list(range(len(street)))
    assert closer.loops
    assert {(loop.a, loop.b) for loop in closer.loops} <= {(a, b) for b in (44, 45, 46) for a in (b - 39, b - 40)}
    assert run(street[:45], T_wc, np.ones(45)).loops == []  # one alone is not believed


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
