"""What drives along lies below the road: found among what stands; and nothing is found where there is no road."""

import math

import numpy as np
import pytest
import torch

from tests.odometry.corridor import CAMERA, CONFIG, Blind, Corridor, drive
from trianflow.geometry.camera import Camera, homogeneous, normalize_pixels
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.road_watch import RoadWatch
from trianflow.odometry.window import SlidingWindow

KITTI = Camera(707.0, 707.0, 601.9, 183.1, 1226, 370)
HEIGHT, STEP = 1.65, 0.8
FORWARD = torch.tensor([0.0, 0.0, STEP], dtype=torch.float64)


def rays(rng, count, u, v):
    p = torch.from_numpy(rng.uniform([u[0], v[0]], [u[1], v[1]], (count, 2)))
    return p, normalize_pixels(p, KITTI.K())


def sigma_of(x, step=STEP):
    """Of inverse depths by a pair of frames, 0.15 pixels."""
    return 0.15 / KITTI.fx / (step * x.norm(dim=1))


def see_road(watch, rng, motion=FORWARD, height=HEIGHT, unit=1.0, v=(250, 360), times=3):
    """Pairs that show the road, in `v` rows of the image."""
    for _ in range(times):
        p, x = rays(rng, 3000, (200, 1000), v)
        sigma = sigma_of(x, float(motion.norm().clamp_min(1e-3)))
        inverse_depth = x[:, 1] / height + sigma * torch.from_numpy(rng.normal(size=len(x)))
        watch.look(p, inverse_depth / unit, sigma / unit, motion * unit)


def watching(rng, **how):
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng, **how)
    return watch


def street(rng, share=0.6, ahead=10.0, tall=1.8, count=60, step=STEP):
    """Tracks: 200 of the road, 100 of a house, 60 of a parked car, 100 far away, `count` of a car of that speed.

    Returns:
        Coordinates, inverse depths as a step of ours gives them, their sigma, and which of them are the car's.
    """
    x_road = rays(rng, 200, (200, 1000), (250, 360))[1]
    x_house = rays(rng, 100, (0, 300), (0, 200))[1]
    x_far = rays(rng, 100, (400, 800), (100, 180))[1]
    parked = torch.from_numpy(rng.uniform([0.15, -0.02], [0.35, 0.16], (60, 2)))
    low = 1.6 / ahead  # of the car, whose back is a rectangle
    car = torch.from_numpy(rng.uniform([-1 / ahead, low - tall / ahead], [1 / ahead, low], (count, 2)))
    x = torch.cat([x_road, x_house, x_far, parked, car])
    depths = (torch.full((100,), 1 / 150), torch.full((60,), 0.1), torch.full((count,), (1 - share) / ahead))
    true = torch.cat([x_road[:, 1] / HEIGHT, 1 / torch.from_numpy(rng.uniform(5, 20, 100)), *depths])
    sigma = sigma_of(x, step)
    mine = torch.arange(len(x)) >= len(x) - count
    return x, true + sigma * torch.from_numpy(rng.normal(size=len(x))), sigma, mine


def is_found(below, mine, share=0.7, false=2):
    """Whether that share of the car is, and hardly anything beside it."""
    return int(below[~mine].sum()) <= false and float(below[mine].double().mean()) > share


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 1.1])
def test_a_car_that_drives_along_is_found_and_nothing_else(seed, share):
    rng = np.random.default_rng(seed)
    *tracks, mine = street(rng, share)
    # a car of our speed looks as far away as what is far over it: some of that goes too
    assert is_found(watching(rng).below(*tracks), mine, false=15 if share == 1 else 2)


@pytest.mark.parametrize("ahead", [6.0, 8.0, 12.0])
def test_a_truck_is_found_up_to_its_top(ahead):
    rng = np.random.default_rng(0)
    *tracks, mine = street(rng, ahead=ahead, tall=3.5, count=150)
    assert is_found(watching(rng).below(*tracks), mine)


def test_a_standing_car_is_left():
    rng = np.random.default_rng(0)
    *tracks, _ = street(rng, share=0.0)
    assert int(watching(rng).below(*tracks).sum()) <= 1


@pytest.mark.parametrize("step", [0.05, 0.1, 0.2])
def test_small_steps_make_no_car_of_the_noise(step):
    """One-sided, as only what is too far may be dropped: the mean of the road's tracks must stay."""
    rng = np.random.default_rng(0)
    x, inverse_depth, sigma, _ = street(rng, share=0.0, step=step)
    watch = watching(rng, motion=FORWARD * (step / STEP))
    kept = ~watch.below(x, inverse_depth, sigma)[:200]
    assert float(kept.double().mean()) > 0.97
    all_of_them, left = (float((inverse_depth[:200][k] * HEIGHT / x[:200][k, 1]).mean()) for k in (kept | True, kept))
    assert left == pytest.approx(all_of_them, abs=0.02)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_does_not_matter(unit):
    rng = np.random.default_rng(0)
    x, inverse_depth, sigma, mine = street(rng)
    assert is_found(watching(rng, unit=unit).below(x, inverse_depth / unit, sigma / unit), mine)


def test_what_lies_beyond_the_end_of_the_road_or_beside_it_is_no_car():
    """Down a hill behind its crest the plane goes on in the image, the road does not; a field lies below a dam."""
    rng = np.random.default_rng(0)
    watch = watching(rng, v=(290, 360))
    valley = rays(rng, 80, (200, 1000), (240, 280))[1]
    field = rays(rng, 80, (1100, 1226), (290, 320))[1]
    for x in (valley, field):
        assert not watch.below(x, x[:, 1] / (2 * HEIGHT), 0.1 * sigma_of(x)).any()


def test_where_most_would_be_below_it_it_is_no_road():
    rng = np.random.default_rng(0)
    watch = watching(rng, height=0.5)
    x = torch.cat([rays(rng, 80, (200, 1000), (250, 360))[1], rays(rng, 100, (500, 800), (250, 360))[1]])
    inverse_depth = torch.cat([x[:80, 1] / 0.5, x[80:, 1] / 1.5])
    assert not watch.below(x, inverse_depth, 0.1 * sigma_of(x)).any()


def no_road(rng, watch, way=FORWARD):
    """A pair that shows a wall."""
    p, x = rays(rng, 3000, (0, 1226), (0, 370))
    watch.look(p, torch.full((len(p),), 0.1, dtype=torch.float64), 1 / x.norm(dim=1), way)


def test_a_road_is_believed_when_it_is_seen_again_and_again():
    rng = np.random.default_rng(0)
    *tracks, mine = street(rng)
    watch = watching(rng, times=2)
    assert not watch.below(*tracks).any()
    see_road(watch, rng, times=1, height=0.9)  # a table
    assert not watch.below(*tracks).any()
    see_road(watch, rng)
    assert is_found(watch.below(*tracks), mine)


def test_a_road_is_remembered_for_a_while_and_not_for_ever():
    rng = np.random.default_rng(0)
    *tracks, mine = street(rng)
    watch = watching(rng)
    for _ in range(30):
        no_road(rng, watch)
    assert is_found(watch.below(*tracks), mine)
    no_road(rng, watch)
    assert not watch.below(*tracks).any()


def turned(degrees):
    """A way that points so far down in the camera: the camera looks up from it."""
    a = math.radians(degrees)
    return STEP * torch.tensor([0.0, math.sin(a), math.cos(a)], dtype=torch.float64)


def test_a_remembered_road_pitches_with_the_way():
    """Of a camera that looks up by two degrees all rows of the road lie lower; by six it is no car's camera."""
    rng = np.random.default_rng(0)
    watch = watching(rng)
    no_road(rng, watch, turned(2))
    x = rays(rng, 200, (400, 800), (280, 360))[1]
    normal = torch.tensor([0.0, math.cos(math.radians(2)), -math.sin(math.radians(2))], dtype=torch.float64)
    road = homogeneous(x) @ normal / HEIGHT
    assert not watch.below(x, road, 0.1 * sigma_of(x)).any()
    assert watch.below(x, torch.cat([road[:150], road[150:] / 1.5]), 0.1 * sigma_of(x))[150:].all()
    no_road(rng, watch, turned(6))
    assert not watch.below(x, torch.cat([road[:150], road[150:] / 1.5]), 0.1 * sigma_of(x)).any()


def test_no_road_has_been_seen():
    rng = np.random.default_rng(0)
    *tracks, _ = street(rng)
    watch = RoadWatch(KITTI.K())
    assert not watch.below(*tracks).any()
    for _ in range(4):
        no_road(rng, watch)
    assert not watch.below(*tracks).any()
    aside = torch.tensor([STEP, 0.0, 0.2], dtype=torch.float64)
    for motion in (aside, 0 * aside, -FORWARD):  # no car drives so
        see_road(watch, rng, motion=motion)
        assert not watch.below(*tracks).any()
    see_road(watch, rng)
    assert watch.below(*tracks).any()
    see_road(watch, rng, motion=aside, times=1)
    assert not watch.below(*tracks).any()
    watch = watching(rng)
    watch.forget()
    assert not watch.below(*tracks).any()


def test_tracks_that_are_no_measurement_and_no_tracks():
    rng = np.random.default_rng(0)
    x, inverse_depth, sigma, mine = street(rng)
    inverse_depth[-60:-50], x[-50:-40], sigma[-40:-30] = math.nan, math.inf, math.inf
    watch = watching(rng)
    below = watch.below(x, inverse_depth, sigma)
    assert not below[-60:-40].any()
    assert is_found(below, mine, 0.4)
    assert watch.below(x[:0], inverse_depth[:0], sigma[:0]).shape == (0,)


class Traffic(Corridor):
    """A car ahead, which drives straight on by `speeds` a frame."""

    def __init__(self, T_wc, speeds, ahead=7.0):
        super().__init__(T_wc)
        self.car = ahead + np.concatenate([[0.0], np.cumsum(speeds)])

    def _on_car(self, i):
        """Depth of the car's back, infinite beside it."""
        T = self.T_wc[i]
        x = normalize_pixels(_pixels(), CAMERA.K()).numpy()
        direction = np.concatenate([x, np.ones_like(x[..., :1])], -1) @ T[:3, :3].T
        depth = (self.car[i] - T[2, 3]) / direction[..., 2]
        at = T[:3, 3] + direction * depth[..., None]
        on = (depth > 0) & (np.abs(at[..., 0]) < 1.2) & (at[..., 1] > -0.8) & (at[..., 1] < 1.5)
        return np.where(on, depth, np.inf)

    def depth(self, i):
        return np.minimum(super().depth(i), self._on_car(i)).astype(np.float32)

    def _towards(self, a, b):
        flow = super()._towards(a, b)
        depth = torch.from_numpy(self._on_car(a))
        on = depth < torch.from_numpy(super().depth(a))
        x = normalize_pixels(_pixels(), CAMERA.K())
        X = homogeneous(homogeneous(x) * torch.where(on, depth, 1.0)[..., None]) @ torch.from_numpy(self.T_wc[a]).mT
        X[..., 2] += self.car[b] - self.car[a]
        X = X @ torch.from_numpy(np.linalg.inv(self.T_wc[b])).mT
        moved = (X[..., :2] / X[..., 2:3] - x) * CAMERA.K().diagonal()[:2]
        return torch.where(on, moved.permute(2, 0, 1)[None].float(), flow)


def _pixels():
    v, u = torch.meshgrid(torch.arange(CAMERA.height), torch.arange(CAMERA.width), indexing="ij")
    return torch.stack([u, v], -1).double()


def test_the_scale_is_not_lost_to_a_car_that_drives_along(monkeypatch):
    T_wc = drive(40, turn=0.0)
    way = np.linalg.norm(np.diff(T_wc[:, :3, 3], axis=0), axis=1)
    world = Traffic(T_wc, way * np.where(np.arange(39) < 25, 0.8, 0.5))
    errors = []
    for watched in (True, False):
        if not watched:
            monkeypatch.setattr(SlidingWindow, "_drop_what_drives", lambda *_: None)
        odometry = VisualOdometry(CAMERA, CONFIG, world)
        for frame in world.frames():
            odometry.track(frame)
        found = np.linalg.norm(np.diff(odometry.trajectory.T_wc[:, :3, 3], axis=0), axis=1)
        scales = np.log(found / way)
        errors.append(abs(scales[-5:].mean() - scales[1:6].mean()))
    assert errors[0] < 0.04 < 0.06 < errors[1]


def test_the_road_is_forgotten_where_the_unit_may_change(monkeypatch):
    """With a blind stretch the window begins anew, and with it the watch."""
    forgotten = []
    forget = RoadWatch.forget
    monkeypatch.setattr(RoadWatch, "forget", lambda self: (forgotten.append(len(steps)), forget(self)))
    steps = []
    world = Blind(drive(14, turn=0.0), {7, 8})
    odometry = VisualOdometry(CAMERA, CONFIG, world)
    for frame in world.frames():
        steps.append(odometry.track(frame))
    assert any(7 <= step <= 10 for step in forgotten)
    assert all(step <= 10 for step in forgotten)
