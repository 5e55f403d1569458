"""Metres in the odometry: when they are known, how sources are weighed, what is told where they do not come."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.odometry.corridor import CAMERA, CONFIG, Blind, Corridor, drive, lengths, log_scales
from trianflow.config import load_settings
from trianflow.odometry.metric import MetricScale
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.pair import KeyFrame
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.preparation import Preparation
from trianflow.odometry.scale_fusion import Measurement
from trianflow.odometry.step import StepStatus
from trianflow.odometry.structure import Structure


def run(world, *words, frames=None):
    odometry = VisualOdometry(CAMERA, load_settings(CONFIG, None, words), world)
    return odometry, [odometry.track(frame) for frame in frames or world.frames()]


def metric_scale(*words):
    config = load_settings(CONFIG, None, words)
    return MetricScale(CAMERA.K(), config, Preparation(CAMERA, config, Corridor(drive(2)), None))


def step_of(length, turn=0.1):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0, turn, 0]).as_matrix()
    T[2, 3] = length
    return T


def speed_file(folder, world, offset=0.0):
    times = 0.1 * np.arange(len(world.T_wc))
    way = np.concatenate([[0], np.cumsum(lengths(world.T_wc))])
    file = folder / "speed.txt"
    file.write_text("".join(f"{t + offset:.3f} {v:.5f}\n" for t, v in zip(times, np.gradient(way, times))))
    return file


def test_one_road_is_not_enough_for_metres():
    scale, seen = metric_scale("camera_height=1.65"), {"camera_height": Measurement(math.log(2), 0.01)}
    keys = [np.eye(4)]
    for number in range(1, 6):
        scale.advance(step_of(1.0), seen)
        keys.append(keys[-1] @ step_of(1.0))
        known = number >= 3
        assert (scale.known, math.isfinite(scale.sigma)) == (known, known)
        assert scale.factor == pytest.approx(2.0 if known else 1.0)
        # the pose is in one unit altogether, also on the frame from which it is in metres
        expected = keys[-1].copy()
        expected[:3, 3] *= scale.factor
        np.testing.assert_allclose(scale.place(np.eye(4)), expected, atol=1e-9)
    assert scale.sigma < 0.1


def test_what_was_measured_is_the_way_in_metres_whatever_the_window_makes_of_the_step():
    scale = metric_scale("camera_height=1.65")
    keys = [np.eye(4)]
    for length in [1.0] * 10:
        scale.advance(step_of(length), {"camera_height": Measurement(math.log(2), 0.01)})
        keys.append(keys[-1] @ step_of(1.25 * length))
    rows = [(number, np.eye(4)) for number in range(len(keys))] + [(10, step_of(0.5))]
    T_wc = scale.corrected(np.array(keys), rows)
    np.testing.assert_allclose(lengths(T_wc[:11]), 2.0, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(T_wc[11, :3, 3] - T_wc[10, :3, 3]), 0.5 * 2 / 1.25, rtol=1e-6)
    np.testing.assert_allclose(scale.metres(np.array(keys)), 2 / 1.25, rtol=1e-6)


def test_another_unit_after_being_lost_is_learnt_and_metres_stay_metres():
    scale = metric_scale("camera_height=1.65")
    keys = [np.eye(4)]

    def go(length, log_scale, broken=False):
        measured = {} if broken else {"camera_height": Measurement(log_scale, 0.01)}
        fused = scale.advance(step_of(length), measured, broken)
        keys.append(keys[-1] @ step_of(length))
        return fused

    for _ in range(30):
        before = go(1.0, 0.0)
    after = go(1.0, 0.0, broken=True)
    assert scale.known
    assert scale.sigma == after.sigma > 0.25 > 5 * before.sigma
    for _ in range(30):
        go(2.0, math.log(0.5))
    found = lengths(scale.corrected(np.array(keys), [(k, np.eye(4)) for k in range(len(keys))]))
    np.testing.assert_allclose(found[:30], 1.0, rtol=0.02)
    np.testing.assert_allclose(found[31:], 1.0, rtol=0.03)


def test_a_unit_that_drifts_leaves_metres():
    """Every step is 1 m, and the structure makes it 1 % less of its unit than the one before."""
    scale, rng, keys = metric_scale("camera_height=1.65"), np.random.default_rng(0), [np.eye(4)]
    for k in range(150):
        measured = {"camera_height": Measurement(0.01 * k + rng.normal(0, 0.02), 0.02)}
        scale.advance(step_of(math.exp(-0.01 * k)), measured)
        keys.append(keys[-1] @ step_of(math.exp(-0.01 * k)))
    found = lengths(scale.corrected(np.array(keys), [(k, np.eye(4)) for k in range(len(keys))]))
    np.testing.assert_allclose(found, 1.0, atol=0.1)
    np.testing.assert_allclose(found[10:].mean(), 1.0, atol=0.01)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_depth_measures_the_scale_of_a_step(factor):
    """In the unit of a step that is so many times too short, and through the distortion that was found."""
    world = Corridor(drive(12), radial=-0.03)
    config = load_settings(CONFIG, None, [])
    preparation = Preparation(CAMERA, config, world, None)
    scale = MetricScale(CAMERA.K(), config, preparation)
    scale.carries = True
    prepared = preparation.prepare(world.frame(9, with_depth=True))
    pair = MotionSolver(CAMERA.K(), config, preparation).compare(world.flow(9, 10), Structure.empty())
    T_ba = torch.from_numpy(np.linalg.inv(world.T_wc[10]) @ world.T_wc[9])
    T_ba[:3, 3] /= factor
    key = KeyFrame(9, 0.9, prepared, torch.eye(4, dtype=torch.float64))
    found = scale.measure(pair, key, T_ba, 1.0, -0.03)
    assert set(found) == {"depth"}
    assert found["depth"].log_scale == pytest.approx(math.log(factor), abs=0.003)
    assert found["depth"].sigma < 0.2
    without = dataclasses.replace(key, prepared=dataclasses.replace(prepared, depth=None))
    assert scale.measure(pair, without, T_ba, 1.0, 0.0) == {}


def test_a_speed_gives_metres(tmp_path):
    world = Corridor(drive(30))
    odometry, steps = run(world, f"speed={speed_file(tmp_path, world)}")
    way = lengths(world.T_wc).sum()
    assert odometry.trajectory.path_length == pytest.approx(way, rel=0.02)
    assert set(steps[-2].shares) == {"structure", "speed"}
    assert sum(steps[-2].shares.values()) == pytest.approx(1)
    # what comes at once agrees with what is known at the end, but for the first steps
    np.testing.assert_allclose(steps[-1].T_wc[:3, 3], odometry.trajectory.T_wc[-1, :3, 3], atol=0.05 * way)
    assert odometry.metric.shortcomings(0.0, 2.9) == []


def test_the_camera_height_gives_metres():
    world = Corridor(drive(30), bays=1.0)  # its floor is 1.6 m below the camera
    odometry, steps = run(world, "camera_height=1.6")
    assert odometry.trajectory.path_length == pytest.approx(lengths(world.T_wc).sum(), rel=0.03)
    assert "camera_height" in steps[-1].shares
    known = [math.isfinite(step.scale_sigma) for step in steps]
    first = known.index(True)
    assert 2 < first < 8
    assert all(known[first:])
    assert steps[-1].scale_sigma < 0.1
    # a step's length is told in the unit of its poses, before and after
    here = np.stack([step.T_wc for step in steps])
    told = np.array([step.scale for step in steps[1:]])
    np.testing.assert_allclose(np.delete(told, first - 1), np.delete(lengths(here), first - 1), rtol=0.05)
    np.testing.assert_allclose(told[first:], lengths(world.T_wc)[first:], rtol=0.1)


def test_metres_survive_being_lost():
    """The speed with which the way goes on is another then, so that the unit would be off by a third."""
    world = Blind(drive(40, turn=0.0), {15, 16, 17, 18}, bays=1.0)
    odometry, steps = run(world, "camera_height=1.6")
    assert {step.index for step in steps if step.status is StepStatus.LOST} >= {15, 16, 17, 18}
    scales = log_scales(world, odometry)
    assert abs(scales[1:14].mean()) < 0.03
    assert abs(scales[22:].mean()) < 0.03
    assert max(step.scale_sigma for step in steps[16:20]) > 0.2
    assert steps[-1].scale_sigma < 0.1


def test_depth_and_what_the_window_carries_are_weighed():
    """Depths that are off by 6 %, each frame by another share: over time hardly anything is left of it."""
    world = Corridor(drive(40))
    errors = np.random.default_rng(0).normal(0, 0.06, 40)

    def frames():
        exact = world.frames(with_depth=True)
        return [dataclasses.replace(f, depth=f.depth * np.float32(np.exp(e))) for f, e in zip(exact, errors)]

    alone, steps_alone = run(world, frames=frames())
    fused, steps = run(world, "scale=depth", frames=frames())
    assert log_scales(world, alone).std() > 0.03
    assert log_scales(world, fused).std() < 0.015
    assert abs(log_scales(world, fused).mean()) < 0.03
    assert fused.radial is not None
    assert all(not step.shares for step in [*steps, *steps_alone]), "the unit is the metre"


def test_measured_depth_holds_the_scale_where_what_the_window_carries_drifts():
    """Distortion that the calibration has left bends a scale in a turn, but not against depth."""
    world = Corridor(drive(40, turn=3.0), radial=-0.03)
    words = ("window.radial_sigma=0",)
    drifting, _ = run(world, *words)
    held, _ = run(world, "scale=depth", *words, frames=world.frames(with_depth=True))
    bent, straight = (log_scales(world, odometry) for odometry in (drifting, held))
    grown, held_back = (scales[18:24].mean() - scales[:6].mean() for scales in (bent, straight))
    assert grown > 0.05
    assert abs(held_back) < 0.5 * grown
    assert np.abs(straight[:24]).max() < 0.06


def test_depth_height_and_speed_are_weighed_together(tmp_path):
    world = Corridor(drive(20), bays=1.0)
    words = ("scale=depth", "camera_height=1.6", f"speed={speed_file(tmp_path, world)}")
    odometry, steps = run(world, *words, frames=world.frames(with_depth=True))
    assert set(steps[-2].shares) == {"structure", "depth", "camera_height", "speed"}
    np.testing.assert_allclose(odometry.trajectory.T_wc, world.T_wc, atol=0.2)


def test_depth_that_comes_late_makes_metres_of_the_whole_trajectory():
    world = Corridor(drive(20))
    frames = [world.frame(i, with_depth=i >= 6) for i in range(20)]
    odometry, steps = run(world, frames=frames)
    assert math.isinf(steps[6].scale_sigma)
    assert math.isfinite(steps[8].scale_sigma)
    np.testing.assert_allclose(odometry.trajectory.T_wc, world.T_wc, atol=0.05)


def test_depth_is_no_source_for_other_scales():
    world = Corridor(drive(8))
    odometry, steps = run(world, "scale=structure", frames=world.frames(with_depth=True))
    assert not odometry.metric.known
    assert {step.scale_source for step in steps[2:]} == {"structure"}


def test_height_leaves_measured_depth_alone():
    """Also in frames whose depth is missing."""
    world = Corridor(drive(14), bays=1.0)  # its floor is 1.6 m below the camera
    frames = [dataclasses.replace(f, depth=None) if f.index in (4, 6, 8, 10) else f for f in world.frames(True)]
    odometry, steps = run(world, "camera_height=4", frames=frames)
    # from key frame 4 on there is nothing to tell the length of one step
    ours, truth = lengths(odometry.trajectory.T_wc), lengths(world.T_wc)
    np.testing.assert_allclose(np.delete(ours, 4), np.delete(truth, 4), rtol=0.02)
    assert not any("camera_height" in step.shares for step in steps)


def test_without_a_frame_there_is_no_pose():
    odometry = VisualOdometry(CAMERA, load_settings(CONFIG, None, ["camera_height=1.6"]), Corridor(drive(2)))
    assert len(odometry.trajectory) == 0
    assert odometry.metric.shortcomings(0.0, 0.0) == []


def test_too_few_roads_and_steps_without_a_way_are_told(tmp_path):
    world = Corridor(drive(3), bays=1.0)
    (few,) = run(world, "camera_height=1.6")[0].metric.shortcomings(0.0, 0.2)
    assert "in 2 of 2 steps; it takes some more" in few
    file = tmp_path / "speed.txt"
    file.write_text("".join(f"{t:.1f} 0\n" for t in range(4)))
    (standing,) = run(world, f"speed={file}")[0].metric.shortcomings(0.0, 0.2)
    assert "known in 0 of 2 steps; it takes steps in which the car drives" in standing


def test_metres_that_do_not_come_are_told(tmp_path):
    world = Corridor(drive(8))
    file = speed_file(tmp_path, world, offset=1000.0)
    odometry, steps = run(world, f"speed={file}", "camera_height=1.6", frames=world.frames()[:3])
    height, speed = odometry.metric.shortcomings(0.0, 0.2)
    assert "of 2 steps" in height
    assert "known in 0 of 2 steps; the frames run from 0.00 to 0.20 s, the speeds from 1000.00 to 1000.70 s" in speed
    np.testing.assert_allclose(odometry.trajectory.T_wc, np.stack([step.T_wc for step in steps]), atol=1e-9)
