"""What drives along lies below the road: found among what stands; and nothing is found where there is no road."""

import math

import numpy as np
import pytest
import torch

from tests.odometry.corridor import CAMERA, CONFIG, Corridor, drive
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


def see_road(watch, rng, motion=FORWARD, height=HEIGHT, unit=1.0, v=(250, 360)):
    """A pair that shows the road, in `v` rows of the image, with noise of 0.15 pixels."""
    p, x = rays(rng, 3000, (200, 1000), v)
    sigma = 0.15 / KITTI.fx / (STEP * x.norm(dim=1))
    inverse_depth = x[:, 1] / height + sigma * torch.from_numpy(rng.normal(size=len(x)))
    watch.look(p, inverse_depth / unit, sigma / unit, motion * unit)


def street(rng, share=0.6, ahead=10.0):
    """Tracks: 200 of the road, 100 of a house at the kerb, 60 of a car of that share of our speed, 60 of another.

    Returns:
        Coordinates, inverse depths as a step of ours gives them, and which of them are the first car's.
    """
    x_road = rays(rng, 200, (200, 1000), (250, 360))[1]
    x_house = rays(rng, 100, (0, 300), (0, 200))[1]
    house = 1.0 / torch.from_numpy(rng.uniform(5, 20, 100))
    low, high = 1.6 / ahead, -0.2 / ahead  # of the car, whose back is a rectangle
    car = torch.from_numpy(rng.uniform([-1 / ahead, high], [1 / ahead, low], (60, 2)))
    parked = torch.from_numpy(rng.uniform([0.15, -0.02], [0.35, 0.16], (60, 2)))
    x = torch.cat([x_road, x_house, car, parked])
    depths = (torch.full((60,), (1 - share) / ahead), torch.full((60,), 0.1))
    inverse_depth = torch.cat([x_road[:, 1] / HEIGHT, house, *depths])
    mine = torch.zeros(len(x), dtype=torch.bool)
    mine[300:360] = True
    return x, inverse_depth, mine


def is_found(below, mine, share=0.8):
    """Whether that share of the car is, and nothing beside it."""
    return not below[~mine].any() and float(below[mine].float().mean()) > share


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.5, 0.8, 1.0, 1.1])
def test_a_car_that_drives_along_is_found_and_nothing_else(seed, share):
    rng = np.random.default_rng(seed)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng)
    x, inverse_depth, mine = street(rng, share)
    # at our own speed and above nothing says what is alike, and only what is seen before the road is found
    assert is_found(watch.below(x, inverse_depth, STEP), mine, 0.8 if share < 1 else 0.5)


def test_a_standing_car_is_left():
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng)
    assert not watch.below(*street(rng, share=0.0)[:2], STEP).any()


def test_the_unit_does_not_matter():
    for unit in (1e-3, 1e3):
        rng = np.random.default_rng(0)
        watch = RoadWatch(KITTI.K())
        see_road(watch, rng, unit=unit)
        x, inverse_depth, mine = street(rng)
        assert is_found(watch.below(x, inverse_depth / unit, STEP * unit), mine)


def test_what_lies_beyond_the_end_of_the_road_is_no_car():
    """Down a hill behind its crest: the plane goes on in the image, the road does not."""
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng, v=(290, 360))
    valley = rays(rng, 80, (200, 1000), (240, 280))[1]
    assert not watch.below(valley, valley[:, 1] / (2 * HEIGHT), STEP).any()


def test_a_road_whose_parallax_is_small_says_nothing():
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng)
    x, inverse_depth, mine = street(rng)
    assert watch.below(x, inverse_depth, STEP)[mine].any()
    assert not watch.below(x, inverse_depth, 0.001 * STEP).any()


def test_where_most_would_be_below_it_it_is_a_table():
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng, height=0.5)
    x = torch.cat([rays(rng, 100, (200, 1000), (250, 360))[1], rays(rng, 100, (0, 1200), (250, 360))[1]])
    inverse_depth = torch.cat([x[:100, 1] / 0.5, x[100:, 1] / 1.5])
    assert not watch.below(x, inverse_depth, STEP).any()


def no_road(rng, watch):
    """A pair that shows a wall."""
    p, x = rays(rng, 3000, (0, 1226), (0, 370))
    watch.look(p, torch.full((len(p),), 0.1, dtype=torch.float64), 1 / x.norm(dim=1), FORWARD)


def test_a_road_is_remembered_for_a_while_and_not_for_ever():
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng)
    x, inverse_depth, mine = street(rng)
    for _ in range(30):
        no_road(rng, watch)
    assert is_found(watch.below(x, inverse_depth, STEP), mine)
    no_road(rng, watch)
    assert not watch.below(x, inverse_depth, STEP).any()


def test_no_road_has_been_seen():
    rng = np.random.default_rng(0)
    x, inverse_depth, _ = street(rng)
    watch = RoadWatch(KITTI.K())
    assert not watch.below(x, inverse_depth, STEP).any()
    no_road(rng, watch)
    assert not watch.below(x, inverse_depth, STEP).any()
    see_road(watch, rng, motion=torch.tensor([STEP, 0.0, 0.2], dtype=torch.float64))  # aside: no car does
    assert not watch.below(x, inverse_depth, STEP).any()
    see_road(watch, rng, motion=torch.zeros(3, dtype=torch.float64))
    assert not watch.below(x, inverse_depth, STEP).any()
    see_road(watch, rng)
    assert watch.below(x, inverse_depth, STEP).any()
    watch.forget()
    assert not watch.below(x, inverse_depth, STEP).any()


def test_tracks_that_are_no_measurement_and_no_tracks():
    rng = np.random.default_rng(0)
    watch = RoadWatch(KITTI.K())
    see_road(watch, rng)
    x, inverse_depth, mine = street(rng)
    inverse_depth[300:310] = math.nan
    x[310:320] = math.inf
    below = watch.below(x, inverse_depth, STEP)
    assert not below[300:320].any()
    assert is_found(below, mine, 0.5)
    assert watch.below(x[:0], inverse_depth[:0], STEP).shape == (0,)


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
            monkeypatch.setattr(SlidingWindow, "_drop_below_road", lambda *_: None)
        odometry = VisualOdometry(CAMERA, CONFIG, world)
        for frame in world.frames():
            odometry.track(frame)
        found = np.linalg.norm(np.diff(odometry.trajectory.T_wc[:, :3, 3], axis=0), axis=1)
        scales = np.log(found / way)
        errors.append(abs(scales[-5:].mean() - scales[1:6].mean()))
    assert errors[0] < 0.5 * errors[1]
