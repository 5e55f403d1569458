"""Colours: photometric agreement with the truth, anti-aliasing, textures, sensor."""

from __future__ import annotations

import pytest
import torch
from synthetic_worlds import driving_pair, pair_of, scene_of

from trianflow.data.synthetic import Photometry, make_scene, random_pairs, render
from trianflow.data.synthetic.scene import BOX
from trianflow.data.synthetic.textures import SIZE, make_textures
from trianflow.geometry.camera import Camera, pixel_grid

_CAMERA = Camera.from_fov(192, 112, 75.0)


@pytest.mark.parametrize(("kind", "seed"), [("street", 0), ("street", 1), ("room", 3)])
def test_image_b_warped_by_the_flow_is_image_a(kind, seed):
    pair = driving_pair(kind, seed, moving=2, camera=_CAMERA)
    there = (pixel_grid(112, 192) + pair.flow_ab[0]).permute(1, 2, 0)[None]
    warped = torch.nn.functional.grid_sample(
        pair.image_b, there / torch.tensor([191, 111]) * 2 - 1, align_corners=True, padding_mode="border"
    )
    use = pair.visible_a[0, 0] > 0
    error = (warped - pair.image_a).abs()[0].mean(0)[use]
    unwarped = (pair.image_b - pair.image_a).abs()[0].mean(0)[use]
    assert error.mean() < 0.016
    assert error.median() < 0.007
    assert error.mean() < 0.5 * unwarped.mean()


@pytest.mark.parametrize(("kind", "seed"), [("street", 0), ("room", 1)])
def test_picture_is_close_to_one_supersampled_eight_times(kind, seed):
    scene = make_scene(kind, seed, 1, length=30.0)
    small = Camera.from_fov(96, 64, 75.0)
    T_wc = pose = torch.eye(4, dtype=torch.float64)[None].clone()
    start, heading = scene.route.at(torch.tensor([3.0]))
    pose[0, :3, 3] = torch.tensor([start[0, 0], -scene.eye_height, start[0, 1]])
    c, s = float(heading.cos()), float(heading.sin())
    pose[0, :3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    image = render(scene, T_wc, torch.zeros(1), small).image
    fine = render(scene, T_wc, torch.zeros(1), small.resized(96 * 8, 64 * 8)).image
    truth = torch.nn.functional.avg_pool2d(fine, 8)
    error = (image - truth).abs()
    assert error.mean() < 0.012
    assert error.flatten().quantile(0.99) < 0.12


def test_fine_stripes_far_away_do_not_shimmer():
    camera = Camera.from_fov(128, 64, 60.0)
    wall = scene_of(lambda b: b.add(BOX, (400.0, 300.0, 1.0), 0, 90.0, 0.0, texture="stripes"))
    wall_poses = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    wall_poses[:, 1, 3] = torch.arange(6) * 0.11 - 150
    images = render(wall, wall_poses, torch.zeros(6), camera).image
    assert images.std(0).mean() < 0.004
    assert images[0].std((1, 2)).max() < 0.03


def test_a_texture_is_reproduced_at_its_texels_and_averages_far_away():
    bank = make_textures()
    number = torch.full((SIZE,), bank.index("brick"))
    at = (torch.arange(SIZE) + 0.5) / SIZE
    row = torch.full_like(at, (40 + 0.5) / SIZE)
    tiny, huge = torch.full_like(at, 1e-6), torch.full_like(at, 100.0)
    exact = bank.sample(number, at, row, tiny, tiny)
    # the finest level comes first along both axes; every second texel begins a window of four
    windows = bank.texels.view(len(bank.names), -1, SIZE - 2, 3, 4)[bank.index("brick"), :SIZE, : SIZE // 2]
    picture = windows[..., :2].permute(2, 0, 1, 3).flatten(2)
    torch.testing.assert_close(exact, picture[:, 40], rtol=0, atol=1e-5)
    torch.testing.assert_close(bank.sample(number, at + 7, row - 3, tiny, tiny), exact, rtol=0, atol=2e-3)
    far = bank.sample(number, at, row, huge, huge)
    torch.testing.assert_close(far, picture.mean((1, 2))[:, None].expand_as(far), rtol=0, atol=0.08)


def test_reduced_matmul_precision_elsewhere_changes_nothing():
    expected = driving_pair("street", 0)
    torch.set_float32_matmul_precision("medium")
    try:
        again = driving_pair("street", 0)
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(again.image_a, expected.image_a, rtol=0, atol=0.02)
    torch.testing.assert_close(again.flow_ab, expected.flow_ab, rtol=1e-3, atol=1e-2)


def test_user_pictures_become_textures():
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 20, 30)
    bank = make_textures(0, [red])
    assert bank.names[-1] == "crop0"
    at = torch.rand(10)
    colour = bank.sample(torch.full((10,), len(bank.names) - 1), at, at, at * 0.1, at * 0.1)
    torch.testing.assert_close(colour, torch.tensor([[1.0], [0.0], [0.0]]).expand(3, 10))
    assert len(make_scene("room", 0, textures=bank).shape) > 10
    with pytest.raises(KeyError, match="no texture 'gold' among"):
        bank.index("gold")


def test_everything_visible_has_texture_for_flow():
    pair = random_pairs(4, 96, 160, 3, photometry=Photometry())
    grey = pair.image_a.mean(1, keepdim=True)
    mean = torch.nn.functional.avg_pool2d(grey, 9, 1, 4)
    deviation = (torch.nn.functional.avg_pool2d(grey * grey, 9, 1, 4) - mean * mean).clamp(min=0).sqrt()
    solid = ~pair.depth_a.isinf()
    assert (deviation[solid] > 0.004).float().mean() > 0.97


def test_pairs_show_the_same_place_under_the_same_light():
    pair = pair_of(make_scene("room", 4), torch.eye(4, dtype=torch.float64).repeat(2, 1, 1) + _lift(1.5))
    torch.testing.assert_close(pair.image_a, pair.image_b)


def _lift(height: float) -> torch.Tensor:
    shift = torch.zeros(4, 4, dtype=torch.float64)
    shift[1, 3] = -height
    return shift
