"""Paths, scenes, sequences, determinism and independence of the items of a batch."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from synthetic_worlds import CAMERA

from trianflow.data.synthetic import (
    SceneKind,
    SyntheticSequence,
    camera_path,
    country,
    make_scene,
    random_pairs,
    render,
    render_pairs,
    verge,
)
from trianflow.data.synthetic.roadside import Line
from trianflow.data.synthetic.scene import BOX, ELLIPSOID, Curve, Dice, Light, SceneBuilder
from trianflow.data.synthetic.street import road_line
from trianflow.data.synthetic.textures import make_textures
from trianflow.data.synthetic.verge import Side
from trianflow.geometry.camera import Camera

_KINDS = ("driving", "handheld", "rotation", "standing", "fast")


def _same(a, b, item=None):
    for f in dataclasses.fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        torch.testing.assert_close(x if item is None else x[item : item + 1], y, rtol=1e-4, atol=1e-4)


def test_one_seed_one_world():
    first, second = (random_pairs(2, 48, 64, 7) for _ in range(2))
    for f in dataclasses.fields(first):
        assert torch.equal(getattr(first, f.name), getattr(second, f.name)), f.name
    other = random_pairs(2, 48, 64, 8)
    assert (other.image_a - first.image_a).abs().mean() > 0.02


def test_random_scenes_are_those_that_caches_of_pairs_hold():
    scene = make_scene("street", 7, 2, length=50.0)
    assert len(scene.shape) == 647
    assert float(scene.T_ol[:, :3, 3].abs().sum()) == pytest.approx(38307.16871608155, rel=1e-12)
    assert float(scene.half.double().sum()) == pytest.approx(5129.18350860849, rel=1e-9)
    assert float(scene.tint.double().sum()) == pytest.approx(1524.9267440065742, rel=1e-9)
    assert int(scene.texture.sum()) == 15744


def test_items_of_a_batch_do_not_know_of_each_other():
    scenes = [
        make_scene("street", 1, 2, length=30.0),
        make_scene("room", 1),
        make_scene("street", 2, length=30.0),
    ]
    poses = torch.stack([camera_path("driving", scene, 2, 10.0, 0) for scene in scenes])
    times = torch.tensor([[0.0, 0.1]]).repeat(3, 1)
    K = torch.stack([Camera.from_fov(96, 64, fov).K() for fov in (60, 75, 90)])
    together = render_pairs(scenes, poses, times, K, 64, 96)
    for i in range(3):
        alone = render_pairs(scenes[i : i + 1], poses[i : i + 1], times[i : i + 1], K[i : i + 1], 64, 96)
        _same(together, alone, i)


def test_shapes_types_and_ranges():
    pair = random_pairs(3, 48, 80, 1)
    assert pair.image_a.shape == (3, 3, 48, 80)
    assert pair.flow_ab.shape == (3, 2, 48, 80)
    assert pair.depth_b.shape == pair.visible_b.shape == (3, 1, 48, 80)
    assert pair.instance_a.shape == (3, 48, 80)
    assert pair.T_ba.shape == (3, 4, 4)
    assert pair.image_b.dtype == pair.flow_ab.dtype == torch.float32
    assert pair.T_ba.dtype == pair.K.dtype == torch.float64
    for x in (pair.image_a, pair.flow_ab, pair.flow_ba, pair.visible_a):
        assert x.isfinite().all()
    assert 0 <= pair.image_a.min() <= pair.image_a.max() <= 1
    assert pair.depth_a.min() > 0


@pytest.mark.parametrize("scene_kind", get_args(SceneKind))
@pytest.mark.parametrize("kind", _KINDS)
def test_paths_are_smooth_rigid_and_upright(scene_kind, kind):
    scene = make_scene(scene_kind, 3, length=120.0)
    fps = 30.0
    T_wc = camera_path(kind, scene, 90, fps, 5)
    R, t = T_wc[:, :3, :3], T_wc[:, :3, 3]
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).double().expand_as(R))
    assert torch.linalg.det(R).min() > 0.999
    assert (R[:, 1, 1] > (0.6 if scene.gaze else 0.9)).all()  # y stays down
    acceleration = t.diff(n=2, dim=0).norm(dim=1) * fps**2
    assert acceleration.max() < 12.0  # m/s^2
    turn = torch.linalg.matrix_norm(R.diff(n=2, dim=0)) * fps**2
    assert turn.max() < 12.0  # rad/s^2
    if kind in ("rotation", "standing"):
        assert (t - t[0]).abs().max() == 0
    if kind == "standing":
        assert (R - R[0]).abs().max() == 0
    if kind == "driving" and scene_kind not in ("room", "office"):
        assert t.diff(dim=0).norm(dim=1).max() * fps / 10 < 1.2  # metres a frame at 10 fps


@pytest.mark.parametrize("scene_kind", get_args(SceneKind))
@pytest.mark.parametrize("kind", ["driving", "handheld", "fast"])
def test_paths_hit_nothing(scene_kind, kind):
    around = [torch.eye(3).double()]
    for _ in range(3):
        around.append(around[-1] @ torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]).double())
    for seed in (0, 1):
        scene = make_scene(scene_kind, seed, 3, length=150.0)
        T_wc = camera_path(kind, scene, 80, 10.0, seed)[::16]
        times = (torch.arange(80) / 10)[::16]
        for R in around:
            turned = T_wc.clone()
            turned[:, :3, :3] = turned[:, :3, :3] @ R
            depth = render(scene, turned, times, Camera.from_fov(48, 32, 100.0)).depth
            assert depth.min() > 0.5


def test_depths_are_near_and_far():
    scene = make_scene("street", 6, length=40.0)
    depth = render(scene, camera_path("driving", scene, 1, 10.0, 0), torch.zeros(1), CAMERA).depth
    solid = depth[~depth.isinf()]
    assert solid.min() < 6
    assert solid.max() > 80


@pytest.mark.parametrize("kind", get_args(SceneKind))
def test_sequence_gives_every_pair_and_the_first_pose_is_the_world(kind):
    sequence = SyntheticSequence.make(kind, "driving", 4, Camera.from_fov(64, 32, 80.0), moving_objects=1)
    pairs = list(sequence)
    frames = list(sequence.frames())
    assert len(sequence) == len(pairs) == 3
    assert len(frames) == 4
    torch.testing.assert_close(sequence.T_0c[0], torch.eye(4).double())
    for i, pair in enumerate(pairs):
        torch.testing.assert_close(sequence.T_0c[i + 1] @ pair.T_ba[0], sequence.T_0c[i])
        torch.testing.assert_close(pair.image_b, frames[i + 1].image, rtol=0, atol=1e-4)


def test_hedges_and_walls_of_a_village_have_no_gaps():
    """Their pieces are at least as long as they are apart, in bends too."""
    for seed in range(6):
        side = Side(
            SceneBuilder(make_textures()), Dice(seed), Line(road_line(Dice(seed), 90.0)), 1, 3.0, 90.0, ((0.0, 0.0),)
        )
        for start, end, away in ((0.0, 12.4, 0.5), (0.0, 6.1, 2.0), (10.0, 85.0, 7.0)):
            pieces = list(side.pieces(start, end, away))
            assert pieces[0][0] - pieces[0][1] / 2 <= start
            assert pieces[-1][0] + pieces[-1][1] / 2 >= end
            for (s, length), (t, _) in pairwise(pieces):
                (x, z, _), (u, v, _) = side.at(s, away), side.at(t, away)
                assert math.hypot(u - x, v - z) < length, (seed, s)


@pytest.mark.parametrize("right", [-1, 1])
def test_ground_beside_a_country_road_has_the_height_that_things_stand_at(right):
    """Seen from above, straight down, over a road that goes straight."""
    profile = ((0.0, 0.0), (2.0, 0.0), (10.0, 4.0), (45.0, 2.5))
    route = Curve(50.0, torch.tensor([[0.0, 0.0], [0.0, 50.0]]).double(), torch.zeros(2).double())
    builder = SceneBuilder(make_textures())
    side = Side(builder, Dice(0), Line(route), right, 3.0 * right, 60.0, profile)
    country.ground(side)
    scene = builder.finish("country", Light(), route, 1.0, 1.6)
    away = torch.tensor([0.5, 1.9, 3.0, 6.0, 9.5, 12.0, 30.0, 44.0], dtype=torch.float64)
    T_wc = torch.eye(4, dtype=torch.float64).repeat(len(away), 1, 1)
    T_wc[:, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).double()  # z looks down
    T_wc[:, :3, 3] = torch.stack([right * (3 + away), torch.full_like(away, -20), torch.full_like(away, 20)], 1)
    depth = render(scene, T_wc, torch.zeros(len(away)), Camera.from_fov(3, 3, 0.1)).depth[:, 0, 1, 1]
    expected = torch.tensor([side.ground(out) for out in away.tolist()])
    assert expected.tolist() == pytest.approx(
        [0, 0, 0.5, 2, 3.75, 4 - 1.5 * 2 / 35, 4 - 1.5 * 20 / 35, 4 - 1.5 * 34 / 35]
    )
    torch.testing.assert_close(20 - depth, expected, rtol=0, atol=0.01)  # the road is a bit higher
    assert side.ground(60.0) == 2.5


@pytest.mark.parametrize("thing", ["wall", "bushes", "cottage", "tree", "scatter", "bales"])
def test_things_stand_on_sloping_ground(thing):
    """What touches the ground at all is not above the lowest of it, and no deeper in it than what is round below."""
    profile = ((0.0, 0.0), (2.5, 0.0), (12.5, 5.0), (52.5, 7.0))
    builder = SceneBuilder(make_textures())
    side = Side(builder, Dice(1), Line(road_line(Dice(3), 90.0)), 1, 3.0, 60.0, profile)
    build = {
        "wall": lambda: verge.wall(side, 0, 30, 6.0),
        "bushes": lambda: verge.bushes(side, 0, 30, 6.0, 3.0),
        "cottage": lambda: verge.cottage(side, 0, 14, 6.0),
        "tree": lambda: verge.tree(side, 10, 8.0),
        "scatter": lambda: verge.scatter(side, 9.0, (3, 3)),
        "bales": lambda: country.bales(side, 0, 40, 14.0),
    }
    build[thing]()
    standing = 0
    for shape, half_x, half_y, _, x, y, z, _, roll, *_ in builder.rows:
        lowest = -(y + (half_x if roll else half_y))
        away = min(math.dist((x, z), side.at(s / 4, 0)[:2]) for s in range(-80, 400))
        if lowest > side.ground(away) + 0.1:
            continue  # on something else
        standing += 1
        width = 0.0 if shape == ELLIPSOID else 1.8 * half_x
        deep = 0.3 * half_y + 0.1 if shape == ELLIPSOID else 0.4
        assert side.ground(away, width) - deep < lowest < side.ground(away, width) + 0.06, (away, lowest)
    assert standing


def test_ground_under_something_wide_is_the_lowest():
    profile = ((0.0, 0.0), (4.0, 0.0), (8.0, -2.0), (48.0, 2.0))
    side = Side(SceneBuilder(make_textures()), Dice(0), Line(road_line(Dice(0), 20.0)), 1, 3.0, 60.0, profile)
    assert side.ground(8.0) == side.ground(9.0, 8.0) == -2.0
    assert side.ground(4.0, 2.0) == -0.5
    assert side.ground(28.0) == pytest.approx(0.0)
    assert side.ground(60.0) == 2.0


@pytest.mark.parametrize("kind", ["country", "village", "office"])
def test_nothing_is_nearer_to_the_way_than_the_clearance(kind):
    """Of upright things between the height of a kerb and the camera; cars that drive have their own lane."""
    for seed in range(15):
        scene = make_scene(kind, seed, 0, length=60.0)
        s = torch.arange(0, scene.route.length, 0.25, dtype=torch.float64)
        offset = scene.route.at(s)[0][:, None] - scene.T_ol[:, [0, 2], 3]
        half = scene.half.double()
        local = torch.einsum("spi,pij->spj", offset, scene.T_ol[:, [0, 2]][:, :, [0, 2]]).abs()
        gap = (local - half[:, [0, 2]]).clamp(min=0).norm(dim=-1).amin(0)  # to the box around it
        top, bottom = half[:, 1] - scene.T_ol[:, 1, 3], -half[:, 1] - scene.T_ol[:, 1, 3]
        upright = (scene.T_ol[:, 1, 1] > 0.99) & (top > 0.3) & (bottom < scene.eye_height)
        assert gap[upright].min() > scene.clearance, (seed, float(gap[upright].min()))


def test_a_texture_has_another_size_in_each_scene():
    bank, sizes = make_textures(), []
    route = Curve(50.0, torch.tensor([[0.0, 0.0], [0.0, 50.0]]).double(), torch.zeros(2).double())
    for seed in range(20):
        builder = SceneBuilder(bank)
        builder.vary_textures(Dice(seed))
        for texture, period in (("brick", 0.0), ("brick", 0.0), ("grass", 0.0), ("grass", 9.0)):
            builder.add(BOX, (1, 1, 1), 0, 0, texture=texture, period=period)
        period = builder.finish("street", Light(), route, 1.0, 1.6).period
        assert torch.equal(period[0], period[1])
        assert period[3].tolist() == [9.0, 9.0]
        sizes.append((period[[0, 2], 0] / bank.periods[[bank.index("brick"), bank.index("grass")]]).log())
    found = torch.stack(sizes)
    assert found.abs().max() <= 0.6
    assert found.std(0).min() > 0.2
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.6
    for kind in ("village", "country", "office"):
        worlds = (make_scene(kind, seed) for seed in (0, 1))
        first, second = (w.period[(w.shape == BOX) & (w.texture[:, 0] == w.texture[:, 1]), 0] for w in worlds)
        assert torch.isin(first, second).float().mean() < 0.5  # some have a size of their own


def test_a_rolled_box_lies_on_its_lowest_corner():
    builder = SceneBuilder(make_textures())
    builder.add(BOX, (2.0, 1.0, 4.0), 5, 6, base=0.3, yaw=0.4, roll=0.5)
    builder.add(BOX, (2.0, 1.0, 4.0), 5, 6, base=0.3, yaw=0.4, roll=math.pi / 2)
    route = Curve(50.0, torch.tensor([[0.0, 0.0], [0.0, 50.0]]).double(), torch.zeros(2).double())
    scene = builder.finish("street", Light(), route, 1.0, 0.0)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
    corners = (scene.half[:, None].double() * signs) @ scene.T_ol[:, :3, :3].mT + scene.T_ol[:, None, :3, 3]
    torch.testing.assert_close(corners[..., 1].amax(1), torch.tensor([-0.3, -0.3]).double())
    torch.testing.assert_close(corners[1, :, 1].amin(), torch.tensor(-2.3).double())
    # its right end is the lower one
    rightmost = corners[0] @ torch.tensor([math.cos(0.4), 0, -math.sin(0.4)]).double()
    assert corners[0, rightmost.argmax(), 1] > corners[0, rightmost.argmin(), 1]


def test_cameras_in_an_office_look_down_and_around():
    headings, downs = [], []
    scene = make_scene("office", 0)
    for seed in range(12):
        poses = (camera_path("standing", s, 1, 10.0, seed)[0] for s in (scene, dataclasses.replace(scene, gaze=0.0)))
        T_wc, along = poses
        torch.testing.assert_close(T_wc[:3, 3], along[:3, 3])
        headings.append(float(torch.nn.functional.cosine_similarity(T_wc[[0, 2], 2], along[[0, 2], 2], dim=0)))
        downs.append(math.asin(T_wc[1, 2]))
        assert abs(math.asin(along[1, 2])) < 0.01
    assert min(headings) < -0.5 < 0.5 < max(headings)
    assert -0.01 < min(downs) < 0.3 < max(downs) < 0.76


def test_random_pairs_of_one_kind_of_scene():
    """Offices are seen from nearer than rooms, and nothing of either is as far as a street."""
    depths = [random_pairs(6, 48, 64, 3, scene=kind).depth_a for kind in ("office", "room", "street")]
    assert depths[0].median() < depths[1].median() < depths[2].median()
    assert depths[1].max() < 16 < depths[2].max()


def test_errors_say_what_to_do():
    scene = make_scene("street", 0, length=20.0)
    with pytest.raises(ValueError, match="length="):
        camera_path("driving", scene, 200, 10.0)
    with pytest.raises(ValueError, match="no camera path 'flying' among driving"):
        camera_path("flying", scene, 2)
    with pytest.raises(ValueError, match="no scene 'forest'"):
        make_scene("forest", 0)
    with pytest.raises(ValueError, match="frames"):
        camera_path("driving", scene, 0)
    pose = torch.eye(4, dtype=torch.float64).expand(1, 2, 4, 4)
    with pytest.raises(ValueError, match="pair up"):
        render_pairs([scene, scene], pose, torch.zeros(1, 2), CAMERA.K()[None], 32, 48)
