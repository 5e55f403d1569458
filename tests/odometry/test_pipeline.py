"""The odometry on a flow that is exact, so that what is tested is the odometry."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.odometry.corridor import CAMERA, CONFIG, Blind, Corridor, drive
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.evaluation.alignment import align_trajectories
from trianflow.geometry.camera import Camera
from trianflow.odometry import motion
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.step import StepStatus
from trianflow.pose.two_view import TwoViewStatus
from trianflow.trajectory import Trajectory


def ate_share(world, trajectory, alignment="sim3"):
    truth = Trajectory(trajectory.times, world.T_wc)
    pair = align_trajectories(truth, trajectory, alignment)
    error = np.linalg.norm(pair.est.positions - pair.gt.positions, axis=1)
    return np.sqrt((error**2).mean()) / truth.path_length


def test_exact_flow_gives_the_trajectory_up_to_scale():
    world = Corridor(drive(40))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames()]
    assert [s.status for s in steps] == [StepStatus.FIRST] + [StepStatus.OK] * 39
    assert {s.scale_source for s in steps[2:]} == {"structure"}
    assert ate_share(world, odometry.trajectory) < 2e-3
    lengths = np.linalg.norm(np.diff(odometry.trajectory.T_wc[:, :3, 3], axis=0), axis=1)
    truth = np.linalg.norm(np.diff(world.T_wc[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(lengths / lengths.mean(), truth / truth.mean(), rtol=0.02)


def test_a_key_frame_ends_with_what_is_known_in_it():
    """Before the image has changed too much: nothing else makes a key frame here."""
    world, ended = Corridor(drive(40)), []
    odometry = VisualOdometry(CAMERA, CONFIG.model_copy(update={"key_parallax": 1.0, "key_motion": 1.0}), world)
    for frame in world.frames():
        odometry.track(frame)
        if odometry.seen.pair is None:
            continue
        pair = odometry.seen.pair
        assert odometry.seen.advanced == (min(pair.overlap, pair.arriving) < CONFIG.key_overlap)
        if odometry.seen.advanced:
            ended.append(pair)
    assert len(ended) > 3
    assert sum(pair.overlap > CONFIG.key_overlap for pair in ended) > len(ended) / 2


def test_depth_makes_it_metric():
    world = Corridor(drive(20))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames(with_depth=True)]
    assert {s.scale_source for s in steps[1:]} == {"depth"}
    np.testing.assert_allclose(odometry.trajectory.T_wc, world.T_wc, atol=0.02)


def test_unit_scale_is_one_for_every_step():
    world = Corridor(drive(8))
    odometry = VisualOdometry(CAMERA, CONFIG.model_copy(update={"scale": "unit"}), world)
    steps = [odometry.track(f) for f in world.frames(with_depth=True)]
    np.testing.assert_allclose([s.scale for s in steps[1:]], 1.0, rtol=1e-9)
    assert [s.key_frame for s in steps[1:]] == list(range(7))


@pytest.mark.parametrize("with_depth", [False, True])
def test_standing_camera_does_not_move(with_depth):
    world = Corridor(np.tile(np.eye(4), (6, 1, 1)))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames(with_depth)]
    assert {s.status for s in steps[1:]} == {StepStatus.STATIC}
    assert odometry.trajectory.path_length == 0


def test_turning_camera_turns_in_place():
    poses = np.tile(np.eye(4), (30, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.radians(3.0 * np.arange(30))[:, None] * [0, 1, 0]).as_matrix()
    world = Corridor(poses)
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames()]
    assert {s.status for s in steps[1:]} == {StepStatus.ROTATION_ONLY}
    assert odometry.trajectory.path_length == 0
    np.testing.assert_allclose(odometry.trajectory.T_wc[:, :3, :3], poses[:, :3, :3], atol=2e-3)
    assert len({s.key_frame for s in steps}) > 3  # the key frame leaves the view, and is replaced


def test_a_turn_on_the_spot_does_not_spoil_the_scale():
    straight, step, turn = [np.eye(4)], np.eye(4), np.eye(4)
    step[2, 3] = 0.5
    turn[:3, :3] = Rotation.from_rotvec([0, np.radians(11), 0]).as_matrix()
    for moved in [step] * 8 + [turn] * 16 + [step] * 8:
        straight.append(straight[-1] @ moved)
    world = Corridor(np.stack(straight))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    for frame in world.frames():
        odometry.track(frame)
    lengths = np.linalg.norm(np.diff(odometry.trajectory.positions, axis=0), axis=1)
    assert lengths[-6:].mean() == pytest.approx(lengths[1:8].mean(), rel=0.3)


def test_a_picture_seen_before_a_gap_has_the_pose_of_then():
    world = Corridor(drive(8, turn=0.0))
    frames = world.frames()
    frames[6] = Frame(6, 0.6, None, problem="missing")
    frames[7] = Frame(7, 0.7, frames[5].image)
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in frames]
    assert steps[7].status is StepStatus.DUPLICATE
    np.testing.assert_array_equal(steps[7].T_wc, steps[5].T_wc)


def mirrored(solve):
    """Two-view geometry that takes the translation of the seventh pair for its opposite, as movers make it."""
    calls = []

    def wrong(*args):
        view = solve(*args)
        calls.append(view)
        if len(calls) != 7:
            return view
        T_ba = view.T_ba.clone()
        T_ba[:, :3, 3] *= -1
        return dataclasses.replace(view, T_ba=T_ba)

    return wrong


def test_the_structure_overrules_two_view_geometry_that_it_contradicts(monkeypatch):
    monkeypatch.setattr(motion, "solve_two_view", mirrored(motion.solve_two_view))
    world = Corridor(drive(20))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames()]
    assert [s.index for s in steps if s.status is StepStatus.PNP] == [7]
    assert steps[7].scale_source == "structure"
    assert ate_share(world, odometry.trajectory) < 5e-3


def let_two_view_geometry_fail(odometry, monkeypatch):
    """From here on, in every pair."""
    compare = odometry._solver.compare

    def failing(flow, structure, refiner):
        pair = compare(flow, structure, refiner)
        status = torch.full_like(pair.view.status, int(TwoViewStatus.NO_CONSENSUS))
        nothing = torch.zeros_like(pair.view.noise)
        view = dataclasses.replace(pair.view, status=status, noise=nothing, parallax=nothing, motion=nothing)
        return dataclasses.replace(pair, view=view)

    monkeypatch.setattr(odometry._solver, "compare", failing)


def test_known_structure_carries_on_where_two_view_geometry_fails(monkeypatch):
    """Poses of known points make key frames, and the depths of new points."""
    world = Corridor(drive(24))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    frames = world.frames()
    steps = [odometry.track(f) for f in frames[:6]]
    let_two_view_geometry_fail(odometry, monkeypatch)
    keys = [s.key_frame for s in steps]
    steps = [odometry.track(f) for f in frames[6:]]
    assert {(s.status, s.scale_source) for s in steps} == {(StepStatus.PNP, "structure")}
    assert len({s.key_frame for s in steps}) > 10 > len(set(keys))
    assert ate_share(world, odometry.trajectory) < 5e-3


class KnownPose:
    """A pose network that is right but for its unit."""

    def __init__(self, world):
        self.world = world

    def pose(self, image_a, image_b, K):
        a, b = (self.world.encode(image) for image in (image_a, image_b))
        T_ba = np.linalg.inv(self.world.T_wc[b]) @ self.world.T_wc[a]
        T_ba[:3, 3] *= 2.5
        return torch.from_numpy(T_ba)


def test_a_pose_network_takes_the_place_of_geometry():
    world = Corridor(drive(12))
    odometry = VisualOdometry(CAMERA, CONFIG, world, pose=KnownPose(world))
    steps = [odometry.track(f) for f in world.frames()]
    assert {(s.status, s.scale_source) for s in steps[1:]} == {(StepStatus.OK, "network")}
    assert [s.key_frame for s in steps[1:]] == list(range(11))
    expected = world.T_wc.copy()
    expected[:, :3, 3] *= 2.5
    np.testing.assert_allclose(odometry.trajectory.T_wc, expected, atol=1e-9)


class Strict(Corridor):
    """A flow that may not be asked for twice at a time."""

    def __init__(self, T_wc):
        super().__init__(T_wc)
        self.lock = threading.Lock()

    def flow(self, a, b):
        assert self.lock.acquire(blocking=False), "flow called while it was running"
        try:
            time.sleep(0.15)
            return super().flow(a, b)
        finally:
            self.lock.release()


def test_the_flow_ahead_never_runs_beside_another():
    world = Strict(drive(7))
    frames = world.frames()
    frames[2] = Frame(2, 0.2, frames[1].image)
    frames[4] = Frame(4, 0.4, None, problem="missing")
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    for frame, upcoming in [(f, frames[min(i + 1, 6)]) for i, f in enumerate(frames)]:
        odometry.track(frame, upcoming)
    odometry.track(world.frame(0, time=0.8), frames[2])  # and a guess that was wrong
    odometry.track(world.frame(3, time=0.9))


@pytest.mark.parametrize("shape", [(8, 8), (120, 15)])
def test_pictures_too_small_for_flow_are_refused(shape):
    with pytest.raises(TrianflowError, match="too small"):
        VisualOdometry(Camera(10, 10, 4, 4), CONFIG).track(Frame(0, 0.0, np.zeros(shape, np.uint8)))


def test_sizes_are_compared_without_a_calibrated_size_too():
    odometry = VisualOdometry(Camera(100, 100, 30, 30), CONFIG)
    rng = np.random.default_rng(0)
    odometry.track(Frame(0, 0.0, rng.integers(0, 255, (64, 64), dtype=np.uint8)))
    assert odometry.track(Frame(1, 0.1, np.zeros((64, 80), np.uint8))).status is StepStatus.BRIDGED


def test_every_frame_has_its_row_and_bad_ones_are_bridged():
    world = Corridor(drive(14, turn=0.0))
    frames = world.frames()
    frames[6] = Frame(6, 0.6, None, problem="truncated")
    frames[7] = Frame(7, 0.7, np.zeros((50, 60), np.uint8))
    frames[8] = Frame(8, 0.8, frames[5].image)
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in frames]
    assert [s.index for s in steps] == list(range(14))
    assert [s.status for s in steps[6:9]] == [StepStatus.BRIDGED, StepStatus.BRIDGED, StepStatus.DUPLICATE]
    assert "truncated" in steps[6].note
    assert "60x50" in steps[7].note
    assert {s.status for s in steps[9:]} == {StepStatus.OK}
    good = [i for i in range(14) if i not in (6, 7, 8)]
    times = np.array([0.1 * i for i in good])
    pair = align_trajectories(Trajectory(times, world.T_wc[good]), Trajectory(times, odometry.trajectory.T_wc[good]))
    assert np.abs(pair.est.positions - pair.gt.positions).max() < 0.03
    # Constant velocity keeps the bridged frame close, too.
    truth = np.linalg.norm(world.T_wc[6, :3, 3] - world.T_wc[5, :3, 3])
    ahead = np.linalg.norm(odometry.trajectory.T_wc[6, :3, 3] - odometry.trajectory.T_wc[5, :3, 3])
    assert ahead == pytest.approx(truth / pair.fit.scale, rel=0.2)


def test_a_blind_moment_is_lost_at_constant_velocity_and_found_again():
    world = Blind(drive(16, turn=0.0), {7})
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames()]
    assert [s.index for s in steps if s.status is StepStatus.LOST] == [7]
    assert "constant velocity" in steps[7].note
    assert np.isfinite(odometry.trajectory.T_wc).all()
    assert ate_share(world, odometry.trajectory) < 0.01


def test_long_blindness_starts_anew_with_the_last_speed():
    world = Blind(drive(20, turn=0.0), {7, 8, 9, 10})
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = [odometry.track(f) for f in world.frames()]
    assert {s.index for s in steps if s.status is StepStatus.LOST} >= {7, 8, 9, 10}
    assert {s.status for s in steps[13:]} == {StepStatus.OK}
    assert ate_share(world, odometry.trajectory) < 0.06


def test_streaming_gives_the_same_steps():
    world = Corridor(drive(12))
    frames = world.frames()
    frames[4] = Frame(4, 0.4, None, problem="missing")
    one, other = VisualOdometry(CAMERA, CONFIG, world), VisualOdometry(CAMERA, CONFIG, world)
    steps, streamed = [one.track(f) for f in frames], list(other.stream(iter(frames)))
    assert [s.status for s in steps] == [s.status for s in streamed]
    np.testing.assert_array_equal(one.trajectory.T_wc, other.trajectory.T_wc)


def test_distortion_is_removed_and_wrong_sizes_bridged():
    odometry = VisualOdometry(Camera(160.0, 160.0, 119.5, 59.5, 240, 120, (-0.2, 0.05, 0.0, 0.0)), CONFIG)
    assert odometry.camera.distortion == ()
    rng = np.random.default_rng(0)
    first = odometry.track(Frame(0, 0.0, rng.integers(0, 255, (120, 240), dtype=np.uint8)))
    second = odometry.track(Frame(1, 0.1, rng.integers(0, 255, (60, 240), dtype=np.uint8)))
    assert (first.status, second.status) == (StepStatus.FIRST, StepStatus.BRIDGED)


class Predicted:
    """The exact depth as if a network had said it, in a unit of its own, with errors; and how often it was asked."""

    def __init__(self, world, factor=1.0, noise=0.0):
        self.world, self.factor, self.noise, self.asked = world, factor, noise, []

    def depth(self, image):
        i = self.world.encode(image)
        self.asked.append(i)
        coarse = np.random.default_rng(i).normal(0, self.noise, (6, 12)).astype(np.float32)
        error = np.kron(coarse, np.ones((20, 20), np.float32))  # of whole regions, as a network's
        return self.world.depth(i) * np.float32(self.factor) * np.exp(error)


DEPTH = CONFIG.model_copy(update={"scale": "depth"})


def test_predicted_depth_gives_the_scale():
    world = Corridor(drive(20))
    depth = Predicted(world, factor=0.1)
    odometry = VisualOdometry(CAMERA, DEPTH, world, depth)
    steps = list(odometry.stream(world.frames()))
    assert {s.status for s in steps[1:]} == {StepStatus.OK}
    assert steps[1].scale_source == "network"
    assert {frozenset(s.shares) for s in steps[1:]} == {frozenset({"structure", "network"})}
    assert depth.asked == list(range(20))  # each frame once
    expected = world.T_wc.copy()
    expected[:, :3, 3] *= 0.1
    np.testing.assert_allclose(odometry.trajectory.T_wc, expected, atol=0.002)


def test_poor_predicted_depth_spoils_no_direction():
    """Regions wrong by 20 % each: rotation and direction stay those of two-view geometry, lengths are right by 3 %."""
    world = Corridor(drive(20))
    odometry = VisualOdometry(CAMERA, DEPTH, world, Predicted(world, noise=0.2))
    for frame in world.frames():
        odometry.track(frame)
    found, truth = (np.linalg.inv(T[:-1]) @ T[1:] for T in (odometry.trajectory.T_wc, world.T_wc))
    np.testing.assert_allclose(found[:, :3, :3], truth[:, :3, :3], atol=1e-3)
    lengths = [np.linalg.norm(T[:, :3, 3], axis=1, keepdims=True) for T in (found, truth)]
    np.testing.assert_allclose(found[:, :3, 3] / lengths[0], truth[:, :3, 3] / lengths[1], atol=0.02)
    ratio = lengths[0] / lengths[1]
    assert np.abs(np.log(ratio)).max() < 0.15
    assert abs(np.log(ratio).mean()) < 0.03


def test_measured_depth_is_preferred_to_predicted():
    world = Corridor(drive(5))
    depth = Predicted(world)
    odometry = VisualOdometry(CAMERA, DEPTH, world, depth)
    frames = world.frames(with_depth=True)
    frames[3] = world.frame(3)  # one without: no other unit comes in
    steps = [odometry.track(f) for f in frames]
    assert depth.asked == []
    assert {"network"} not in [set(s.shares) - {"structure"} for s in steps]
    np.testing.assert_allclose(odometry.trajectory.T_wc, world.T_wc, atol=0.05)


def test_a_key_frame_without_a_pose_is_found_by_predicted_depth(monkeypatch):
    """Where two-view geometry fails, the pose comes from the predicted depth."""
    world = Corridor(drive(4))
    odometry = VisualOdometry(CAMERA, DEPTH, world, Predicted(world))
    let_two_view_geometry_fail(odometry, monkeypatch)
    steps = [odometry.track(f) for f in world.frames()]
    assert {(s.status, s.scale_source) for s in steps[1:]} == {(StepStatus.PNP, "network")}
    np.testing.assert_allclose(odometry.trajectory.T_wc, world.T_wc, atol=0.02)


class Counting(Corridor):
    """Which images were encoded."""

    def __init__(self, T_wc):
        super().__init__(T_wc)
        self.encoded = []

    def encode(self, image):
        self.encoded.append(super().encode(image))
        return self.encoded[-1]


@pytest.mark.parametrize("streamed", [False, True])
def test_each_frame_is_encoded_once(streamed):
    world = Counting(drive(12))
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    steps = list(odometry.stream(world.frames())) if streamed else [odometry.track(f) for f in world.frames()]
    assert len(steps) == 12
    assert world.encoded == list(range(12))
