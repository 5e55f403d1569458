"""Long drives: the way, its speeds, the stop, the return, the town beside it, the traffic, and what is left out."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from trianflow.data.synthetic import SyntheticSequence, render, render_pairs
from trianflow.data.synthetic.culling import within_sight
from trianflow.data.synthetic.roadside import HALF_ROAD, LANE
from trianflow.data.synthetic.route import Turn, rounded, travelled
from trianflow.data.synthetic.scene import BOX
from trianflow.geometry.camera import Camera, pixel_grid

_CAMERA = Camera.from_fov(192, 96, 80.0)
_DRIVES = [("open", 0), ("open", 1), ("open", 2), ("loop", 0), ("loop", 1)]


@lru_cache
def _drive(kind, seed):
    return SyntheticSequence.drive(kind, _CAMERA, seed)


def _ground(sequence):
    """`(N, 2)` x and z, and `(N,)` metres come, of the camera."""
    at = sequence.T_wc[:, [0, 2], 3].numpy()
    return at, np.append(0, np.linalg.norm(np.diff(at, axis=0), axis=1).cumsum())


def _turned(sequence):
    """Radians about the vertical, unwrapped."""
    R = sequence.T_wc[:, :3, :3].numpy()
    return np.unwrap(np.arctan2(R[:, 0, 2], R[:, 2, 2]))


def _standing(T_wc):
    """Numbers of the frames whose pose is that of the next."""
    return (T_wc[1:] == T_wc[:-1]).all(2).all(1).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("kind", "seed"), _DRIVES)
def test_as_long_and_as_fast_as_a_drive_through_a_town(kind, seed):
    sequence = _drive(kind, seed)
    assert len(sequence.T_wc) == 2000
    _, come = _ground(sequence)
    assert 1350 < come[-1] < 1650
    speed, turning = np.diff(come) * 10, np.abs(np.diff(_turned(sequence))) * 10
    assert speed.max() < 10.6
    assert np.abs(np.diff(speed)).max() < 0.7
    assert 8 < np.median(speed[turning < 0.05]) < 10.2
    in_turn = turning > 0.25
    assert in_turn.sum() > 150
    assert np.quantile(speed[in_turn], 0.02) > 3.5
    assert np.quantile(speed[in_turn], 0.98) < 5.5


@pytest.mark.parametrize(("kind", "seed"), _DRIVES)
def test_turns_are_right_angles_to_both_sides(kind, seed):
    sequence = _drive(kind, seed)
    turned = _turned(sequence)
    quarters = np.round(turned / (math.pi / 2))
    straight = np.abs(turned - quarters * math.pi / 2) < 0.03
    assert straight.mean() > 0.6
    turns = np.diff(quarters[straight])
    turns = turns[turns != 0]
    assert set(turns) == {-1, 1}
    assert len(turns) >= 6
    curve = sequence.scene.route
    assert 1 / 13.1 < curve.headings.diff().abs().max() / curve.step < 1 / 8.4


@pytest.mark.parametrize(("kind", "seed"), _DRIVES)
def test_the_car_stands_for_three_seconds_half_way(kind, seed):
    T_wc = _drive(kind, seed).T_wc
    rest = _standing(T_wc)
    assert 28 <= len(rest) <= 30
    assert rest[-1] - rest[0] == len(rest) - 1
    assert 700 < rest[0] < 1300
    _, come = _ground(_drive(kind, seed))
    come = np.diff(come)
    assert min(come[: rest[0] - 40].min(), come[rest[-1] + 40 :].min()) > 0.35


@pytest.mark.parametrize("seed", [0, 1])
def test_a_loop_returns_and_goes_on_where_it_went(seed):
    sequence = _drive("loop", seed)
    at, come = _ground(sequence)
    early, late = come < 80, come > come[-1] - 80
    away = np.linalg.norm(at[late][:, None] - at[early], axis=-1)
    back = away.min(1) < 1.5
    length = np.ptp(come[late][back])
    assert 55 < length < 65
    assert back[-1]
    R = sequence.T_wc[:, :3, :3].numpy()
    first, again = R[early][away.argmin(1)][back], R[late][back]
    angle = np.degrees(np.arccos(((np.einsum("nij,nij->n", first, again) - 1) / 2).clip(-1, 1)))
    assert angle.max() < 10
    assert away.min(1)[back].max() > 0.02  # not the very same places


@pytest.mark.parametrize(("kind", "seed"), _DRIVES)
def test_no_other_place_is_seen_twice(kind, seed):
    at, come = _ground(_drive(kind, seed))
    until = come < come[-1] - (100 if kind == "loop" else 0)
    at, come = at[until], come[until]
    away = np.linalg.norm(at[:, None] - at, axis=-1)
    earlier = come < come[:, None] - 60
    assert away[earlier].min() > 25


@pytest.mark.parametrize("seed", [0, 3])
def test_a_short_loop_goes_round_one_block(seed):
    sequence = SyntheticSequence.drive("loop", _CAMERA, seed, frames=750)
    at, come = _ground(sequence)
    assert np.linalg.norm(at[-1] - at[come < 80], axis=1).min() < 1.5
    assert abs(abs(_turned(sequence)[-1] - _turned(sequence)[0]) - 2 * math.pi) < 0.1


def test_a_rounded_corner_by_hand():
    points = np.array([[0.0, 0.0], [0.0, 50.0], [40.0, 50.0], [40.0, 100.0]])
    curve, extents = rounded(points, [Turn(10, 4, 9), Turn(8, 5, 10)])
    # curvature rises over a quarter of a turn, stays and falls: three quarters of it are as if it stayed
    np.testing.assert_allclose(extents[:, 1] - extents[:, 0], np.array([10, 8]) * math.pi / 2 / 0.75)
    step = curve.points.diff(dim=0).norm(dim=1)
    assert (step - curve.step).abs().max() < 1e-3
    middle = curve.headings[1:] / 2 + curve.headings[:-1] / 2
    along = torch.stack([middle.sin(), middle.cos()], 1)
    assert (curve.points.diff(dim=0) / curve.step - along).abs().max() < 1e-2
    np.testing.assert_allclose(curve.points[-1], points[-1], atol=curve.step)
    assert curve.headings.max() == pytest.approx(math.pi / 2)
    assert curve.headings[-1] == pytest.approx(0)


def test_braking_and_speeding_up_by_hand():
    turns, extents = [Turn(10, 4, 8), Turn(10, 5, 10)], np.array([[100.0, 120.0], [220.0, 240.0]])
    s = travelled(400, extents, turns, 60, 5500, 100)
    assert (np.diff(s) == 0).sum() == pytest.approx(300, abs=2)
    assert s[np.diff(s).argmin()] == 60
    assert np.diff(s).argmin() == pytest.approx(1000, abs=2)  # 40 m at 8 m/s, then 5 s to brake
    speed = np.diff(s) * 100

    def at(metres):
        return speed[np.searchsorted(s, metres)]

    assert at(39) == pytest.approx(8, rel=0.01)
    assert at(50) == pytest.approx(math.sqrt(2 * 1.6 * 10), rel=0.02)
    assert at(64) == pytest.approx(math.sqrt(2 * 1.2 * 4), rel=0.04)
    assert at(110) == pytest.approx(4, rel=0.01)
    assert at(170) == pytest.approx(10, rel=0.01)
    assert at(210) == pytest.approx(math.sqrt(5**2 + 2 * 1.6 * 10), rel=0.01)


@pytest.mark.parametrize(("kind", "seed"), _DRIVES)
def test_nothing_stands_on_the_way(kind, seed):
    scene, s = _drive(kind, seed).scene, _ground(_drive(kind, seed))[1][-1]
    at = scene.route.points[: int(s / scene.route.step) : 8]
    top = -scene.T_ol[:, 1, 3] + scene.half[:, 1]
    base = -scene.T_ol[:, 1, 3] - scene.half[:, 1]
    solid = (scene.instance == 0) & (top > 0.3) & (base < 2)
    T_lw = torch.linalg.inv(scene.T_ol[solid])
    nearest = torch.inf
    for x, z in at.tolist():
        here = T_lw[:, :3, 0] * x + T_lw[:, :3, 2] * z + T_lw[:, :3, 3]
        beside = (here.abs() - scene.half[solid]).clamp(min=0)
        beside = torch.where(T_lw[:, 1, 1].abs() > 0.5, beside[:, [0, 2]].norm(dim=1), beside.norm(dim=1))
        nearest = min(nearest, float(beside.min()))
    assert nearest > LANE + 0.93


@pytest.mark.parametrize(("kind", "seed"), [("open", 0), ("loop", 0)])
def test_houses_stand_neither_on_streets_nor_in_each_other(kind, seed):
    scene = _drive(kind, seed).scene
    box = scene.shape == BOX
    turned = scene.T_ol[:, :3, :3].abs() @ scene.half.double()[..., None]  # all stand along the axes
    low, high = scene.T_ol[:, [0, 2], 3] - turned[:, [0, 2], 0], scene.T_ol[:, [0, 2], 3] + turned[:, [0, 2], 0]
    house = box & (scene.half[:, 1] > 3) & (scene.half[:, [0, 2]] > 1.9).all(1)
    asphalt = box & (scene.half[:, [0, 2]] >= HALF_ROAD - 1e-3).all(1) & (scene.half[:, 1] == 0.15)
    assert house.sum() > 250
    assert asphalt.sum() > 40

    def overlap(a, b):
        return (torch.minimum(high[a][:, None], high[b]) - torch.maximum(low[a][:, None], low[b])).amin(-1)

    assert overlap(house, asphalt).max() < -0.3
    assert overlap(house, house).fill_diagonal_(-1).max() < 0


@pytest.mark.parametrize(("kind", "seed"), [("open", 1), ("loop", 1)])
def test_cars_come_to_meet_the_camera_and_one_drives_ahead(kind, seed):
    sequence = _drive(kind, seed)
    movers = sequence.scene.movers
    assert len(movers) == 8
    times = torch.arange(2000) / 10
    there = torch.linalg.inv(sequence.T_wc)[:, None] @ torch.stack([mover.poses(times) for mover in movers], 1)
    x, _, z = there[:, :, :3, 3].unbind(-1)
    assert 8 < torch.hypot(x, z)[400, 0] < 20
    assert torch.hypot(x, z)[320:480, 0].max() < 45
    assert ((z[:, 0] > 3) & (z[:, 0] < 50) & (x[:, 0].abs() < 0.8 * z[:, 0])).sum() > 80
    for k in range(1, 8):
        meeting = (z[:, k].abs() < 30).nonzero()[:, 0]
        assert (x[meeting, k] < 0).any()
        assert there[meeting, k, 2, 2].min() < -0.9  # it looks at the camera
    still = _standing(sequence.T_wc)
    seen = [
        int((render(sequence.scene, sequence.T_wc[i : i + 1], times[i : i + 1], _CAMERA).instance > 0).sum())
        for i in still[:: len(still) // 4]
    ]
    assert max(seen) > 40
    assert len(set(seen)) > 1


@pytest.mark.parametrize(("kind", "frame"), [("open", 150), ("open", 1190), ("loop", 620)])
def test_what_is_left_out_is_not_missed(kind, frame):
    sequence = _drive(kind, 1)
    scene, T_wc, times = sequence.scene, sequence.T_wc[frame : frame + 1], torch.tensor([frame / 10])
    whole = dataclasses.replace(scene, reach=math.inf)
    camera = _CAMERA.resized(512, 256)
    part = within_sight(scene, T_wc, times, camera.K(), 256, 512)
    assert len(part.shape) < 0.2 * len(scene.shape)
    some, every = (render(s, T_wc, times, camera) for s in (scene, whole))
    near = every.depth < 60
    assert near.float().mean() > 0.4
    close = (some.depth - every.depth)[near].abs() <= 1e-3 * every.depth[near]
    assert close.float().mean() > 0.9999
    error = (some.image - every.image).abs()
    assert error.mean() < 3e-4
    assert error.flatten().quantile(0.999) < 0.05


def test_flow_and_visibility_of_what_is_left():
    sequence = _drive("open", 1)
    scene, size = sequence.scene, (_CAMERA.K()[None], _CAMERA.height, _CAMERA.width)
    T_wc, times = sequence.T_wc[None, [300, 303]], torch.tensor([[30.0, 30.3]])
    some = render_pairs([scene], T_wc, times, *size)
    every = render_pairs([dataclasses.replace(scene, reach=math.inf)], T_wc, times, *size)
    near = every.depth_a < 60
    assert ((some.flow_ab - every.flow_ab).norm(dim=1, keepdim=True)[near] < 1e-2).float().mean() > 0.9999
    assert (some.visible_a == every.visible_a)[near].float().mean() > 0.999


def test_the_flow_in_a_turn_leads_to_the_same_colours():
    sequence = _drive("open", 1)
    first = int(np.abs(np.diff(_turned(sequence))).argmax())
    times = torch.tensor([[first, first + 1]]) / 10
    camera = _CAMERA.resized(384, 192)
    pair = render_pairs([sequence.scene], sequence.T_wc[None, first : first + 2], times, camera.K()[None], 192, 384)
    there = (pixel_grid(192, 384) + pair.flow_ab[0]).permute(1, 2, 0)[None]
    size = torch.tensor([383, 191])
    warped = torch.nn.functional.grid_sample(pair.image_b, there / size * 2 - 1, align_corners=True)
    seen = pair.visible_a[0, 0] > 0
    assert seen.float().mean() > 0.85
    error, still = ((image - pair.image_a)[0].abs().mean(0)[seen] for image in (warped, pair.image_b))
    assert error.mean() < 0.02
    assert error.mean() < 0.3 * still.mean()


def test_one_seed_one_drive():
    first = SyntheticSequence.drive("open", _CAMERA, 4, frames=300)
    again, other = (SyntheticSequence.drive("open", _CAMERA, seed, frames=300) for seed in (4, 5))
    assert torch.equal(first.T_wc, again.T_wc)
    for name in ("T_ol", "half", "texture", "tint", "instance"):
        assert torch.equal(getattr(first.scene, name), getattr(again.scene, name))
    assert not torch.equal(first.T_wc, other.T_wc)
    frames = [next(iter(sequence.stream(depth=True))) for sequence in (first, again)]
    assert np.array_equal(frames[0].image, frames[1].image)
    assert np.array_equal(frames[0].depth, frames[1].depth)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="no drive 'circle' among open, loop"):
        SyntheticSequence.drive("circle", _CAMERA)
    with pytest.raises(ValueError, match="ask for more frames"):
        SyntheticSequence.drive("loop", _CAMERA, frames=300)
    with pytest.raises(ValueError, match="frames"):
        SyntheticSequence.drive("open", _CAMERA, frames=1)
