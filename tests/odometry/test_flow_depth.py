"""Dense triangulation in the corridor, whose depth and flow are exact."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tests.odometry.corridor import CAMERA, CONFIG, GRID, Corridor, drive
from trianflow.flow.interface import FlowPair
from trianflow.odometry.flow_depth import flow_depth
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.shots import Shot, triangulated_shot

K = CAMERA.K()


def T_between(world: Corridor, a: int, b: int) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(world.T_wc[b]) @ world.T_wc[a])


def parallax(world: Corridor, a: int, b: int) -> np.ndarray:
    """`(H, W)` what the flow leaves of itself without the rotation, pixels."""
    R = T_between(world, a, b)[:3, :3].numpy()
    X = np.concatenate([GRID.numpy(), np.ones_like(GRID[..., :1])], -1) @ R.T
    turned = X[..., :2] / X[..., 2:] - GRID.numpy()
    flow = world.flow(a, b).flow_ab[0].permute(1, 2, 0).numpy()
    return np.linalg.norm(flow - CAMERA.fx * turned, axis=-1)


def test_depth_of_an_exact_flow() -> None:
    for radial in (0.0, 0.02):
        world = Corridor(drive(8), radial)
        flow, T_ba, truth = world.flow(0, 3), T_between(world, 0, 3), world.depth(0)
        depth = flow_depth(flow, T_ba, K, radial)
        assert (depth.dtype, depth.shape) == (np.float32, truth.shape)
        known = depth > 0
        assert known.mean() > 0.4
        np.testing.assert_allclose(depth[known], truth[known], rtol=0.01)
        T_ba[:3, 3] *= 2
        np.testing.assert_allclose(flow_depth(flow, T_ba, K, radial), 2 * depth, rtol=1e-4)


def test_only_pixels_with_parallax_are_known() -> None:
    world = Corridor(drive(8))
    known, moved = flow_depth(world.flow(0, 3), T_between(world, 0, 3), K) > 0, parallax(world, 0, 3)
    assert not known[moved < 1.1].any()
    assert known[moved > 1.55].mean() > 0.6  # the rest is out of the view of b, or at an edge


def test_nothing_is_known_without_a_translation() -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("y", 2, degrees=True).as_matrix()
    world = Corridor([np.eye(4), turn])
    for a, b in ((0, 0), (0, 1)):
        assert not flow_depth(world.flow(a, b), T_between(world, a, b), K).any()


def test_nothing_is_known_behind_a_camera_beside_the_line_or_unconfirmed() -> None:
    world = Corridor(drive(8))
    flow, T_ba = world.flow(0, 3), T_between(world, 0, 3)
    backwards = T_ba.clone()
    backwards[:3, 3] *= -1
    assert not flow_depth(flow, backwards, K).any()
    one_way = FlowPair(flow.flow_ab, torch.zeros_like(flow.flow_ba))
    assert not flow_depth(one_way, T_ba, K).any()
    side = torch.tensor([0.0, 1.5])[None, :, None, None]  # across the lines left and right of the epipole
    moved = flow_depth(FlowPair(flow.flow_ab + side, flow.flow_ba - side), T_ba, K)
    assert (flow_depth(flow, T_ba, K)[55:65, :60] > 0).mean() > 0.3
    assert not moved[55:65, :60].any()


def test_what_is_not_finite_is_unknown() -> None:
    world = Corridor(drive(8))
    flow, T_ba = world.flow(0, 3), T_between(world, 0, 3)
    flow.flow_ab[..., :40, :] = torch.nan
    depth = flow_depth(flow, T_ba, K)
    assert np.isfinite(depth).all()
    assert not depth[:40].any()
    assert depth[40:].any()


def shots(world: Corridor) -> list[tuple[int, Shot]]:
    """Those of a run, by the number of the frame that completed them."""
    odometry, found = VisualOdometry(CAMERA, CONFIG, world), []
    for frame in world.frames():
        shot = triangulated_shot(odometry, odometry.track(frame))
        if shot is not None:
            found.append((frame.index, shot))
    return found


def test_the_unit_of_a_shot_is_the_way_from_the_key_frame_before() -> None:
    world = Corridor(drive(8))
    found, key = shots(world), 0
    assert len(found) > 3
    for number, shot in found:
        way = np.linalg.norm(world.T_wc[number][:3, 3] - world.T_wc[key][:3, 3])
        known = shot.depth > 0
        assert known.mean() > 0.3
        assert known[-10:].mean() > 0.3, "who drives forward has seen before what is now near"
        np.testing.assert_allclose(shot.depth[known] * way, world.depth(number)[known], rtol=0.01)
        np.testing.assert_array_equal(shot.T_kc, np.eye(4))
        key = number
    assert [shot.key for _, shot in found] == list(range(1, len(found) + 1))


def test_a_camera_that_stands_has_no_shots() -> None:
    assert shots(Corridor(np.tile(np.eye(4), (4, 1, 1)))) == []
