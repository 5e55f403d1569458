"""Matches that are refined: what the geometry and the window make of them, and when the flow stands."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.odometry.corridor import CAMERA, CONFIG, Corridor
from trianflow.config import OdometryConfig
from trianflow.data.synthetic import SyntheticSequence
from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowPair
from trianflow.flow.refinement import PATCH, Refiner, smoothed
from trianflow.geometry.camera import Camera
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.preparation import Preparation, Prepared
from trianflow.odometry.structure import Structure
from trianflow.odometry.window import SlidingWindow

T_BA = np.linalg.inv(np.array([[1.0, 0, 0, 0.3], [0, 1, 0, 0], [0, 0, 1, 1.0], [0, 0, 0, 1]]))


class Corrector:
    """Knows the true flow: it finds what lies in the chosen share of the columns, best what lies lowest."""

    def __init__(self, flow: FlowPair, share: float) -> None:
        self.flow, self.share = flow, share

    def __call__(self, p_a, p_b):
        column, row = p_a.round().long().unbind(-1)
        column, row = column.clamp(0, CAMERA.width - 1), row.clamp(0, CAMERA.height - 1)
        true = p_a + self.flow.flow_ab[0][:, row, column].T.to(p_a.dtype)
        found = column < self.share * self.flow.flow_ab.shape[-1]
        sigma = torch.where(found, 0.2 - 0.05 * row.double() / CAMERA.height, torch.inf)
        return torch.where(found[:, None], true.to(p_b.dtype), p_b), sigma

    def patches(self, p_a):
        return torch.zeros(len(p_a), PATCH)

    def shapes(self, p_a):
        return torch.eye(2, dtype=torch.float64).repeat(len(p_a), 1, 1)

    def aligned(self, patches, shapes, p_b):
        return p_b, torch.full((len(p_b),), 0.15, dtype=torch.float64)


def compared(share: float | None):
    """A corridor whose flow is a third of a pixel off, and its pair."""
    world = Corridor([np.eye(4), np.linalg.inv(T_BA)])
    flow = world.flow(0, 1)
    shift = torch.tensor([0.25, -0.2])[None, :, None, None]
    wrong = FlowPair(flow.flow_ab + shift, flow.flow_ba - shift)
    solver = MotionSolver(CAMERA.K(), CONFIG, Preparation(CAMERA, CONFIG, world, None))
    return flow, solver.compare(wrong, Structure.empty(), None if share is None else Corrector(flow, share))


def error_of(flow, pair):
    p_a, p_b = (p[0][pair.matches.valid[0]] for p in (pair.matches.p_a, pair.matches.p_b))
    column, row = p_a.round().long().unbind(-1)
    return (p_b - p_a - flow.flow_ab[0][:, row, column].T).norm(dim=-1)


def angle_of(T_ba):
    return np.degrees(np.linalg.norm(T_ba[:3, :3] - np.eye(3)) / np.sqrt(2))


def test_refined_matches_alone_make_the_geometry():
    flow, pair = compared(0.6)
    assert pair.refiner is not None
    assert float(error_of(flow, pair).max()) < 1e-3, "those that were not found are left out"
    assert float(pair.view.noise) < 0.02
    _, biased = compared(None)
    right, wrong = (angle_of(other.view.T_ba[0].double().numpy()) for other in (pair, biased))
    assert right < 0.002
    assert wrong > 0.02, "degrees, as nothing else of this corridor turns"


def test_where_few_can_be_refined_the_flow_stands():
    flow, pair = compared(0.1)
    assert pair.refiner is None
    assert torch.allclose(error_of(flow, pair), torch.tensor(0.3202), atol=1e-3), "none of them is moved"
    p = pair.matches.p_a[0].double()
    kept, sigma = pair.refined(p, p + 1)
    assert torch.equal(kept, p + 1)
    assert sigma.isinf().all()
    assert pair.sigma.isinf().all()


@pytest.mark.parametrize(("share", "weights"), [(0.6, (0.15**2 / 0.2**2, 1.0)), (None, (0.15, 0.185))])
def test_a_tracked_point_weighs_by_how_it_was_found(share, weights):
    _, pair = compared(share)
    window = SlidingWindow(CAMERA.K(), CONFIG.window)
    window.restart(0, torch.eye(4, dtype=torch.float64))
    window.add(1, torch.from_numpy(T_BA), pair)
    found = window._window.weight[1][window._window.seen[1]]
    assert len(found) > 100
    first = window._window.weight[0] == 1
    assert first.all()
    assert weights[0] <= float(found.min()) <= float(found.max()) <= weights[1]


class Remembering(Corrector):
    """Knows again what lies in the left half."""

    def aligned(self, patches, shapes, p_b):
        assert len(patches) == len(shapes) == len(p_b)
        return p_b + 0.01, torch.where(p_b[:, 0] < CAMERA.width / 2, 0.15, torch.inf).double()


def test_a_point_that_no_longer_looks_as_it_did_has_ended():
    flow, pair = compared(1.0)
    window = SlidingWindow(CAMERA.K(), CONFIG.window)
    window.restart(0, torch.eye(4, dtype=torch.float64))
    window.add(1, torch.from_numpy(T_BA), pair)
    before = window._p.clone()
    window._follow(dataclasses.replace(pair, refiner=Remembering(flow, 1.0)))
    left = window._p[:, 0] < CAMERA.width / 2
    assert len(before) > 100
    assert window._alive[left].any()
    assert not window._alive[~left].any()
    window._follow(dataclasses.replace(pair, refiner=None))
    assert window._alive.any(), "where the flow stands, looks end nothing"


def test_the_surest_match_of_a_cell_is_tracked():
    _, pair = compared(1.0)
    window = SlidingWindow(CAMERA.K(), CONFIG.window)
    window.restart(0, torch.eye(4, dtype=torch.float64))
    window.add(1, torch.from_numpy(T_BA), pair)
    row = (window._window.x[0, :, 1] * CAMERA.fy + CAMERA.cy).round()
    offered = pair.matches.p_a[0][pair.view.inlier[0]][:, 1]
    side = np.sqrt(CAMERA.height * CAMERA.width / (1.5 * CONFIG.window.points))
    lower = [float(x % side / side) for x in row], [float(x % side / side) for x in offered]
    assert np.mean(lower[0]) > np.mean(lower[1]) + 0.1, "these lie low in their cells, as that is where sigma is small"


def test_refining_makes_the_rotation_and_direction_of_a_street_better():
    camera = Camera(256.0, 256.0, 255.5, 127.5, 512, 256)
    drive = SyntheticSequence.drive("open", camera, seed=5, frames=40)
    dis, errors = DISFlow(), {True: [], False: []}
    config = OdometryConfig()
    solver = MotionSolver(camera.K(), config, Preparation(camera, config, dis, None))
    frames = [frame.image for frame in drive.stream()][::3]
    poses = drive.T_0c.numpy()[::3]
    for i in range(len(frames) - 1):
        a, b = frames[i], frames[i + 1]
        flow = dis.flow(dis.encode(a), dis.encode(b))
        truth = np.linalg.inv(poses[i + 1]) @ poses[i]
        for refines in errors:
            refiner = Refiner(smoothed(a), smoothed(b), flow.flow_ab) if refines else None
            T = solver.compare(flow, Structure.empty(), refiner).view.T_ba[0].double().numpy()
            cosine = T[:3, 3] @ truth[:3, 3] / np.linalg.norm(truth[:3, 3])
            errors[refines].append((angle_of(T @ np.linalg.inv(truth)), np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    with_it, without = (np.median(errors[refines], axis=0) for refines in (True, False))
    assert (with_it < 0.8 * without).all(), (with_it, without)


def test_a_frame_is_smoothed_once():
    prepared = Prepared(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8), None, None)
    assert prepared.smooth is prepared.smooth
    assert prepared.smooth.shape == (40, 60)
