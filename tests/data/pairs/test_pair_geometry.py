"""K, poses, depth and flow stay true to the images through resize, window and mirror."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from trianflow.data.pairs.augment import (
    Draw,
    blur_images,
    crop_pair,
    flip_pair,
    jitter_images,
    resize_pair,
    shadow_images,
)
from trianflow.data.pairs.config import DataConfig
from trianflow.data.pairs.dataset import open_dataset
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.sources import RawPair
from trianflow.data.undistort import Undistorter
from trianflow.geometry.camera import Camera
from trianflow.geometry.warping import inverse_warp, rigid_flow


@pytest.fixture(scope="module")
def raw(drive) -> RawPair:
    """The exact pair of a static world at 192 x 96."""
    camera = drive.camera.resized(192, 96)
    pair = drive.pair(1, camera)
    images = torch.cat([pair.image_a, pair.image_b]).permute(0, 2, 3, 1).mul(255).round().byte().numpy()
    depth = pair.depth_a[0].numpy()
    return RawPair(
        images,
        camera,
        pair.flow_ab[0].numpy(),
        pair.visible_a[0].numpy(),
        np.where(np.isfinite(depth), depth, np.nan).astype(np.float32),
        pair.T_ba[0].numpy(),
    )


def batched(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]


def assert_true(pair: RawPair) -> None:
    """The flow warps b onto a, and is what depth, pose and K say."""
    flow, depth = batched(pair.flow_ab), batched(pair.depth_a)
    images = batched(pair.images).float().permute(0, 1, 4, 2, 3) / 255
    warped, inside = inverse_warp(images[:, 1], flow)
    seen = inside & (batched(pair.visible_a) > 0)
    error = (warped - images[:, 0]).abs().mean(1, keepdim=True)
    still = (images[:, 1] - images[:, 0]).abs().mean(1, keepdim=True)
    assert seen.float().mean() > 0.4
    assert error[seen].mean() < 0.6 * still[seen].mean()
    assert error[seen].mean() < 0.03
    for shift in ((0.7, 0), (-0.7, 0), (0, 0.7), (0, -0.7)):  # the flow is right to a fraction of a pixel
        beside, _ = inverse_warp(images[:, 1], flow + torch.tensor(shift)[:, None, None])
        assert (beside - images[:, 0]).abs().mean(1, keepdim=True)[seen].mean() > 1.15 * error[seen].mean()
    rigid = rigid_flow(depth.double(), batched(pair.T_ba), pair.camera.K()[None])
    known = depth.isfinite()[:, 0]
    assert known.float().mean() > 0.5
    assert (rigid - flow).norm(dim=1)[known].max() < 0.02


def test_the_raw_pair_is_true(raw) -> None:
    assert_true(raw)
    with pytest.raises(AssertionError):  # the check sees a principal point that is a pixel off
        assert_true(replace(raw, camera=raw.camera.cropped(2, 0, 192, 96)))


def test_mirror(raw) -> None:
    flipped = flip_pair(raw)
    assert_true(flipped)
    assert flipped.camera.cx == pytest.approx(191 - raw.camera.cx)
    twice = flip_pair(flipped)
    np.testing.assert_array_equal(twice.images, raw.images)
    np.testing.assert_allclose(twice.T_ba, raw.T_ba, atol=0)
    np.testing.assert_array_equal(twice.flow_ab, raw.flow_ab)


@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (1.0, 1.0), (0.3, 0.8)])
def test_window(raw, left, top) -> None:
    window = crop_pair(raw, (128, 64), left, top)
    assert window.images.shape == (2, 64, 128, 3)
    assert (window.camera.width, window.camera.height) == (128, 64)
    x, y = round(left * 64), round(top * 32)
    np.testing.assert_array_equal(window.depth_a, raw.depth_a[:, y : y + 64, x : x + 128])
    assert_true(window)
    assert_true(flip_pair(window))


@pytest.mark.parametrize("size", [(240, 120), (288, 96)])
def test_a_longer_lens(raw, size) -> None:
    """Camera and flow follow exactly, depth and visibility by the nearest pixel."""
    width, height = size
    longer = resize_pair(raw, size)
    assert longer.images.shape == (2, height, width, 3)
    assert longer.camera == raw.camera.resized(width, height)
    scale = torch.tensor([width / 192, height / 96])[:, None, None]
    flow = scale * interpolate(batched(raw.flow_ab), (height, width), mode="bilinear")
    assert (batched(longer.flow_ab) - flow).abs().max() < 0.01
    for name in ("depth_a", "visible_a"):
        near = interpolate(batched(getattr(raw, name)), (height, width), mode="nearest-exact")
        np.testing.assert_array_equal(getattr(longer, name), near[0])
    warped, inside = inverse_warp(batched(longer.images[1].transpose(2, 0, 1)) / 255, batched(longer.flow_ab))
    error = (warped - batched(longer.images[0].transpose(2, 0, 1)) / 255).abs().mean(1, keepdim=True)
    assert error[inside & (batched(longer.visible_a) > 0)].mean() < 0.03
    assert resize_pair(raw, (192, 96)) is raw


def test_zoom_shows_a_random_part_from_nearer(drive) -> None:
    """The part that a magnified pair shows is that of its K; without augmentation all is shown."""
    config = DataConfig(size=(96, 48), train=[{"drives": 1, "seed": 3}], flip=0, jitter=0, zoom=2.0)
    whole, zoomed = open_dataset(config, "train", 0, False), open_dataset(config, "train", 0, True)
    plain, focal = whole[0], []
    fx, fy, cx, cy = plain.K[0][[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    for epoch in range(12):
        pair = zoomed[(epoch, 0)]
        zoom_x, zoom_y = float(pair.K[0, 0, 0] / fx), float(pair.K[0, 1, 1] / fy)
        width, height = round(96 / zoom_x), round(48 / zoom_y)
        assert abs(width / 2 - height) <= 1
        left = round(cx + 0.5 - (float(pair.K[0, 0, 2]) + 0.5) / zoom_x)
        top = round(cy + 0.5 - (float(pair.K[0, 1, 2]) + 0.5) / zoom_y)
        part = plain.image_a[..., top : top + height, left : left + width]
        again = interpolate(part, (48, 96), mode="bilinear")
        assert (again - pair.image_a).abs().mean() < 0.005
        focal.append(zoom_x)
    assert 1 <= min(focal) < 1.2
    assert 1.7 < max(focal) < 2.05
    assert np.median(focal) == pytest.approx(2**0.5, abs=0.3)


def test_shadows_take_light_with_sharp_and_soft_borders_the_same_of_both_images() -> None:
    darkest, borders = [], []
    for seed in range(20):
        light = shadow_images(np.ones((2, 48, 96, 3), np.float32), np.random.default_rng(seed))
        assert light.dtype == np.float32
        assert np.array_equal(light, shadow_images(np.ones((2, 48, 96, 3), np.float32), np.random.default_rng(seed)))
        assert (light == light[:1, ..., :1]).all()
        assert 1e-3 < light.min() < light.max() <= 1  # three layers of 90 % leave a thousandth
        assert light.max() > 0.5
        darkest.append(light.min())
        borders.append(np.abs(np.diff(light[0, ..., 0], axis=1)).max())
    assert min(darkest) < 0.15
    assert np.median(darkest) < 0.6
    assert min(borders) < 0.2
    assert max(borders) > 0.3


def test_blur_takes_what_is_fine_alone() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((2, 48, 96, 3)).astype(np.float32)
    y, x = np.mgrid[:48, :96].astype(np.float32)
    smooth = np.broadcast_to((0.5 + 0.3 * np.sin(x / 12) * np.cos(y / 10))[..., None], (2, 48, 96, 3)).copy()
    left = []
    for seed in range(20):
        blurred, same = (blur_images(images, np.random.default_rng(seed)) for images in (noise, smooth))
        assert blurred.dtype == np.float32
        assert blurred.shape == noise.shape
        assert np.array_equal(blurred, blur_images(noise, np.random.default_rng(seed)))
        assert np.abs(same - smooth).max() < 0.03
        assert blurred.mean() == pytest.approx(noise.mean(), abs=0.01)
        left.append(blurred.std() / noise.std())
    assert min(left) < 0.35
    assert 0.45 < max(left) < 1


def test_shadows_lie_on_what_the_networks_see_alone() -> None:
    config = DataConfig(size=(96, 48), train=[{"drives": 8, "seed": 3}], flip=0, jitter=0, shadow=0.5)
    dataset = open_dataset(config, "train", 0, True)
    plain = open_dataset(config, "train", 0, False)
    dark = 0
    for i in range(8):
        item = dataset[i]
        assert torch.equal(item.image_a, plain[i].image_a)
        assert torch.equal(dataset[i].input_a, item.input_a)
        assert (item.input_a <= item.image_a).all()
        dark += not torch.equal(item.input_a, item.image_a)
    assert 0 < dark < 8
    always = open_dataset(config.model_copy(update={"shadow": 1.0}), "train", 0, True)
    lights = []
    for key in ((0, 1), (1, 1), (0, 2)):
        item = always[key]
        bright = (item.image_a > 0.2) & (item.image_b > 0.2)
        light_a, light_b = item.input_a / item.image_a, item.input_b / item.image_b
        torch.testing.assert_close(light_a[bright], light_b[bright], rtol=1e-4, atol=1e-4)
        lights.append(float(light_a[bright].mean()))
    assert len({round(light, 4) for light in lights}) == 3


def test_blur_is_on_what_the_networks_see_alone() -> None:
    config = DataConfig(size=(96, 48), train=[{"drives": 8, "seed": 3}], flip=0, jitter=0, blur=0.5)
    dataset, plain = open_dataset(config, "train", 0, True), open_dataset(config, "train", 0, False)
    blurred = 0
    for i in range(8):
        item = dataset[i]
        assert torch.equal(item.image_a, plain[i].image_a)
        assert torch.equal(dataset[i].input_b, item.input_b)
        changed = [not torch.equal(a, b) for a, b in ((item.input_a, item.image_a), (item.input_b, item.image_b))]
        assert changed[0] == changed[1]
        blurred += changed[0]
    assert 0 < blurred < 8


@pytest.mark.parametrize("size", [(200, 64), (320, 100), (400, 90), (320, 160)])
def test_resize_moves_the_picture_as_it_moves_K(size) -> None:
    """On a picture whose brightness is its coordinate: u' = (u + 0.5) s - 0.5."""
    camera = Camera(210, 205, 158, 83, 320, 160)
    for axis, (old, new) in enumerate(zip((320, 160), size)):
        ramp = np.linspace(20, 220, old)
        image = np.broadcast_to(ramp[None, :] if axis == 0 else ramp[:, None], (160, 320)).astype(np.uint8)
        out = Preparation(camera, size, "stretch").image(image)
        assert out.shape == (size[1], size[0], 3)
        np.testing.assert_array_equal(out[..., 0], out[..., 2])
        at = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        profile = out[size[1] // 2, :, 1] if axis == 0 else out[:, size[0] // 2, 1]
        # rounded down above, and to the nearest by the resize: half a grey value low
        assert abs(np.mean(profile[5:-5] - (np.interp(at, np.arange(old), ramp)[5:-5] - 0.5))) < 0.1
    resized = Preparation(camera, size, "stretch").camera
    assert (resized.width, resized.height) == size
    assert resized.cx == pytest.approx((158 + 0.5) * size[0] / 320 - 0.5)
    assert resized.fy == pytest.approx(205 * size[1] / 160)


def test_crop_covers_with_the_aspect_ratio_kept() -> None:
    for size, covering in (((128, 128), (256, 128)), ((300, 100), (300, 150)), ((640, 300), (640, 320))):
        camera = Preparation(Camera(210, 205, 158, 83, 320, 160), size, "crop").camera
        assert (camera.width, camera.height) == covering
        assert camera.fx / camera.fy == pytest.approx(210 / 205)


def test_distorted_frames_become_pinhole_frames() -> None:
    camera = Camera(160, 160, 159.5, 79.5, 320, 160, (-0.2, 0.05, 0.001, 0.0))
    preparation = Preparation(camera, (160, 64), "stretch")
    undistorter = Undistorter(camera)
    assert preparation.camera == undistorter.camera.resized(160, 64)
    image = np.random.default_rng(0).integers(0, 255, (160, 320, 3)).astype(np.uint8)
    plain = Preparation(undistorter.camera, (160, 64), "stretch")
    np.testing.assert_array_equal(preparation.image(image), plain.image(undistorter.image(image)))


def test_depth_takes_the_nearest_pixel() -> None:
    preparation = Preparation(Camera(3, 3, 2.5, 1, 6, 3), (2, 3), "stretch")
    depth = np.arange(18, dtype=np.float32).reshape(3, 6)
    np.testing.assert_array_equal(preparation.depth(depth), [[1, 4], [7, 10], [13, 16]])
    depth[0, 1] = 0
    out = preparation.depth(depth)
    assert np.isnan(out[0, 0])
    assert out.dtype == np.float32
    assert np.isfinite(out.ravel()[1:]).all()


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_recorded_pair_with_poses_and_depth(drive, fit, flip) -> None:
    """Against the exact pair through the camera that the dataset says it has."""
    source = {"path": str(drive.folder), "poses": str(drive.folder / "poses.txt"), "depth": str(drive.folder / "depth")}
    config = DataConfig(size=(160, 64), fit=fit, train=[source], flip=flip, min_motion=0)
    dataset = open_dataset(config, "train", 4, augment=True)
    assert len(dataset) == 3
    item = dataset[(2, 1)]
    fx, fy, cx, cy = (float(item.K[0, i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    exact = drive.pair(1, Camera(fx, fy, 159 - cx if flip else cx, cy, 160, 64))

    def as_shown(x: torch.Tensor) -> torch.Tensor:
        return x.flip(-1) if flip else x

    assert (item.image_a - as_shown(exact.image_a)).abs().mean() < 0.03
    assert (item.image_b - as_shown(exact.image_b)).abs().mean() < 0.03
    shifted = (item.image_a - as_shown(exact.image_a).roll(1, -1)).abs().mean()
    assert shifted > 1.3 * (item.image_a - as_shown(exact.image_a)).abs().mean()
    flow = as_shown(exact.flow_ab) * torch.tensor([-1.0 if flip else 1.0, 1.0])[:, None, None]
    rigid = rigid_flow(item.truth.depth_a.double(), item.truth.T_ba, item.K)
    known = item.truth.depth_a.isfinite()[:, 0]
    error = (rigid - flow).norm(dim=1)[known]
    assert flow.norm(dim=1)[known].median() > 1
    assert error.median() < 0.03  # depth is taken from the nearest pixel
    assert error.mean() < 0.1
    assert item.truth.flow_ab is None
    assert item.truth.visible_a is None


def test_windows_are_random_in_training_and_central_else(drive) -> None:
    config = DataConfig(size=(80, 80), fit="crop", train=[{"path": str(drive.folder)}], flip=0, min_motion=0)
    dataset = open_dataset(config, "train", 0, augment=True)
    centres = {float(dataset[(epoch, 0)].K[0, 0, 2]) for epoch in range(12)}
    full = Preparation(drive.camera, (80, 80), "crop").camera
    assert full.cx - 80 <= min(centres) < max(centres) <= full.cx
    assert len(centres) > 8
    plain = open_dataset(config, "train", 0, augment=False)
    assert {float(plain[(e, 0)].K[0, 0, 2]) for e in range(3)} == {full.cx - 40}


def test_draws_are_those_of_their_key_alone() -> None:
    assert Draw.from_key(1, 2, 3) == Draw.from_key(1, 2, 3)
    assert len({Draw.from_key(*key).flip for key in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))}) == 4
    colours = np.array([Draw.from_key(0, 0, i).colour for i in range(400)])
    assert abs(colours.mean()) < 0.05
    assert colours.min() < -0.95
    assert colours.max() > 0.95


def test_jitter_against_a_plain_loop() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    s, (b, c, t, g) = 0.4, (0.5, -0.8, 0.9, -0.3)
    v = (images / 255.0) ** np.exp(s * g) * (1 + s * b)
    weights = np.array([0.299, 0.587, 0.114])
    mean = (v @ weights).mean()
    v = mean + (1 + s * c) * (v - mean)
    grey = (v @ weights)[..., None]
    expected = (grey + (1 + s * t) * (v - grey)).clip(0, 1)
    np.testing.assert_allclose(jitter_images(images, s, (b, c, t, g)), expected, atol=2e-6)
    np.testing.assert_allclose(jitter_images(images, 0.0, (b, c, t, g)), images / 255, atol=1e-6)
    same = np.stack([images[0], images[0]])
    a, b_ = jitter_images(same, s, (b, c, t, g))
    np.testing.assert_array_equal(a, b_)
