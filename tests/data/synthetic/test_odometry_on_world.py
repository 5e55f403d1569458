"""Odometry on rendered worlds: with their exact flow, which tests the world's truth, and with measured flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from trianflow.config import OdometryConfig, load_settings
from trianflow.data.synthetic import Photometry, SyntheticSequence, render_pairs
from trianflow.evaluation.alignment import fit_similarity
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import Camera
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.step import Step, StepStatus
from trianflow.trajectory import Trajectory

_CAMERA = Camera.from_fov(320, 192, 80.0)


class _ExactFlow:
    """The true flow between the frames of a sequence, which must be encoded in order."""

    def __init__(self, sequence: SyntheticSequence) -> None:
        self.sequence, self.encoded = sequence, 0

    def encode(self, image):
        self.encoded += 1
        return self.encoded - 1

    def flow(self, a, b):
        s = self.sequence
        times = torch.tensor([[a, b]], dtype=torch.float64) / s.fps
        K, height, width = s.camera.K()[None], s.camera.height, s.camera.width
        pair = render_pairs([s.scene], s.T_wc[None, [a, b]], times, K, height, width)
        return FlowPair(pair.flow_ab, pair.flow_ba)


@dataclass(frozen=True)
class _Run:
    steps: list[Step]
    estimate: Trajectory
    truth: Trajectory

    @property
    def statuses(self) -> set[StepStatus]:
        """Of every frame after the first."""
        return {step.status for step in self.steps[1:]}

    @property
    def longest_step(self) -> float:
        """Metres with depth, else units."""
        return float(np.linalg.norm(np.diff(self.estimate.positions, axis=0), axis=1).max())

    def error(self) -> tuple[float, float]:
        """Position error after 7-DoF alignment, RMS as a share of the path, and the scale of that alignment."""
        fit = fit_similarity(self.estimate.positions, self.truth.positions, "sim3")
        off = fit.apply(self.estimate.T_wc)[:, :3, 3] - self.truth.positions
        return float(np.sqrt((off**2).sum(1).mean()) / self.truth.path_length), fit.scale


def _track(kind, path, frames, seed, *, depth=False, exact=False, photometry=None, preset="fast") -> _Run:
    sequence = SyntheticSequence.make(kind, path, frames, _CAMERA, 10.0, seed, photometry=photometry)
    flow = _ExactFlow(sequence) if exact else None
    config = OdometryConfig.preset(preset)
    if exact:  # no image tells more than the true flow
        config = load_settings(config, None, ["matches.refine=false"])
    odometry = VisualOdometry(_CAMERA, config, flow)
    steps = [odometry.track(frame) for frame in sequence.stream(depth)]
    truth = Trajectory(np.arange(frames) / sequence.fps, sequence.T_0c.numpy())
    return _Run(steps, odometry.trajectory, truth)


def test_stream_gives_what_odometry_takes():
    sequence = SyntheticSequence.make("street", "driving", 3, Camera.from_fov(64, 48, 80.0))
    frames, plain = list(sequence.stream(depth=True)), list(sequence.stream())
    for i, (frame, rendered) in enumerate(zip(frames, sequence.frames())):
        assert (frame.index, frame.time) == (i, i / 10)
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image / 255 - rendered.image[0].permute(1, 2, 0).numpy()).max() < 0.502 / 255
        assert frame.depth.shape == (48, 64)
        assert frame.depth.dtype == np.float32
        sky = rendered.depth[0, 0].isinf().numpy()
        assert sky.any()
        assert (frame.depth[sky] == 0).all()
        assert np.array_equal(frame.depth[~sky], rendered.depth[0, 0].numpy()[~sky])
        assert plain[i].depth is None


@pytest.mark.parametrize(
    ("kind", "path", "frames"), [("street", "driving", 40), ("room", "handheld", 20), ("street", "fast", 12)]
)
def test_exact_flow_and_depth_give_the_exact_path(kind, path, frames):
    error, scale = _track(kind, path, frames, 2, depth=True, exact=True).error()
    assert error < 1e-3
    assert scale == pytest.approx(1, abs=1e-3)


def test_exact_flow_gives_the_exact_path_but_for_scale():
    error, _ = _track("street", "driving", 40, 2, exact=True).error()
    assert error < 2e-3


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("kind", ["street", "room"])
def test_exact_flow_of_a_turning_camera_goes_nowhere(kind, depth):
    assert _track(kind, "rotation", 8, 1, depth=depth, exact=True).longest_step < 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_driving(seed):
    error, _ = _track("street", "driving", 40, seed, preset="accurate").error()
    assert error < 0.01


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_driving_with_depth_is_metric(seed):
    error, scale = _track("street", "driving", 20, seed, depth=True, preset="accurate").error()
    assert error < 0.005
    assert scale == pytest.approx(1, abs=0.015)


def test_driving_fast():
    error, _ = _track("street", "driving", 40, 0).error()
    assert error < 0.03


@pytest.mark.parametrize("depth", [False, True])
def test_a_standing_camera_stands(depth):
    perfect = _track("street", "standing", 8, 1, depth=depth)
    noisy = _track("street", "standing", 8, 1, depth=depth, photometry=Photometry(0.05, 0.01, 0.01))
    assert perfect.statuses == {StepStatus.DUPLICATE}
    assert noisy.statuses == {StepStatus.STATIC}
    assert perfect.estimate.path_length == noisy.estimate.path_length == 0


@pytest.mark.parametrize("kind", ["street", "room"])
def test_a_turning_camera_with_depth_stays(kind):
    assert _track(kind, "rotation", 16, 1, depth=True).longest_step < 0.02


@pytest.mark.parametrize("kind", ["street", "room"])
def test_a_turning_camera_without_depth_stays(kind):
    assert _track(kind, "rotation", 8, 1).longest_step == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hand_held_room_with_depth(seed):
    run = _track("room", "handheld", 30, seed, depth=True, preset="accurate")
    error, scale = run.error()
    assert error < 0.01
    assert scale == pytest.approx(1, abs=0.01)
    assert run.longest_step < 0.1
