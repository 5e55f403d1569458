"""Thinning against a loop over voxels; what is dropped, and when; memory."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from trianflow.visualization.cloud import GrowingCloud, not_lonely


def add(cloud: GrowingCloud, X: np.ndarray, key: int | np.ndarray = 0, views: int = 3, weight: float = 1.0) -> None:
    number = len(X)
    color = np.tile(np.array([[10, 20, 30]], np.uint8), (number, 1))
    keys = np.broadcast_to(key, number)
    cloud.add(X, color, np.full(number, weight), np.ones(number), keys, np.full(number, views))


def test_a_voxel_is_the_weighted_mean_of_its_points() -> None:
    rng = np.random.default_rng(0)
    X, weight = rng.uniform(-1, 1, (5000, 3)), rng.uniform(0.5, 2, 5000)
    color, key = rng.integers(0, 256, (5000, 3)).astype(np.uint8), rng.integers(0, 40, 5000)
    cloud = GrowingCloud(0.2, 1, 100_000)
    cloud.add(X, color, weight, np.ones(5000), key, np.ones(5000))
    found = cloud.points()
    assert cloud.voxel == pytest.approx(0.2)  # a fifth of the median distance
    cells = defaultdict(list)
    for i, cell in enumerate(map(tuple, np.floor(X / 0.2).astype(int))):
        cells[cell].append(i)
    assert len(found.X) == len(cells)
    for x, c, first in zip(found.X, found.color, found.key):
        members = cells[tuple(np.floor(x / 0.2).astype(int))]
        np.testing.assert_allclose(x, np.average(X[members], axis=0, weights=weight[members]), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(c, np.average(color[members], axis=0, weights=weight[members]), atol=0.51)
        assert first == key[members].min()


def test_batches_make_no_difference() -> None:
    X = np.random.default_rng(1).uniform(0, 1, (3000, 3))
    whole, parts = GrowingCloud(0.1, 1, 8000), GrowingCloud(0.1, 1, 2000)
    add(whole, X)
    for i, part in enumerate(np.split(X, 30)):
        add(parts, part, i)
    order = [np.lexsort(cloud.points().X.T) for cloud in (whole, parts)]
    np.testing.assert_allclose(whole.points().X[order[0]], parts.points().X[order[1]])


def test_a_voxel_needs_views_of_different_key_frames() -> None:
    cloud = GrowingCloud(0.1, 3, 1000)
    add(cloud, np.full((5, 3), 0.05), key=7, views=1)  # one key frame, five times
    add(cloud, np.full((3, 3), 5.05), key=np.array([7, 8, 9]), views=1)
    np.testing.assert_allclose(cloud.points().X, [[5.05, 5.05, 5.05]])


def test_what_nothing_confirms_is_dropped_while_it_grows() -> None:
    rng = np.random.default_rng(2)
    wall = rng.uniform(0, 1, (400, 3)) * [1, 1, 0]
    cloud, sizes = GrowingCloud(0.02, 3, 1000), []
    for key in range(200):
        add(cloud, wall, key, views=1)
        add(cloud, rng.uniform(-50, 50, (400, 3)), key, views=1)
        sizes.append(len(cloud._voxels) + len(cloud._fresh))
    assert max(sizes) <= 2 * 1000 + 1000 // 2 + 800
    assert cloud.voxel == pytest.approx(0.02)
    found = cloud.points().X
    cells = np.unique(np.floor(wall / 0.02), axis=0)
    assert len(found) == len(cells)
    np.testing.assert_array_equal(np.unique(np.floor(found / 0.02), axis=0), cells)


def test_voxels_grow_where_there_are_too_many() -> None:
    X = np.random.default_rng(4).uniform(0, 1, (6000, 3)) * [1, 1, 0]
    cloud = GrowingCloud(0.02, 3, 1000)  # 2500 cells
    add(cloud, X)
    assert len(cloud.points().X) == 25 * 25
    assert cloud.voxel == pytest.approx(0.04)


def cells(*numbers: int) -> np.ndarray:
    """Centres of a block of cells with a side of 0.02."""
    return (np.stack(np.meshgrid(*map(np.arange, numbers), indexing="ij"), -1).reshape(-1, 3) + 0.5) * 0.02


@pytest.mark.parametrize("limit", [1000, 5000])
def test_neighbours_that_one_view_saw_do_not_confirm_each_other(limit: int) -> None:
    plane, blob = cells(50, 50, 1), cells(2, 2, 2) + 4
    cloud = GrowingCloud(0.02, 2, limit)
    add(cloud, np.concatenate([plane, plane, blob]), np.repeat([0, 1, 0], [2500, 2500, 8]), views=1)
    found = cloud.points().X
    assert cloud.voxel == pytest.approx(0.04 if limit < 2500 else 0.02)
    assert len(found) == (625 if limit < 2500 else 2500)
    assert found.max() < 1.01, "a stray that one view saw is dropped, of whatever side voxels are"


def test_of_equally_old_ones_as_many_as_there_is_room_for_are_kept() -> None:
    plane, cloud = cells(50, 50, 1), GrowingCloud(0.02, 2, 1000)
    add(cloud, plane, 0, views=1)
    assert len(cloud._voxels) == 2 * 1000
    add(cloud, plane, 1, views=1)
    assert 500 < len(cloud.points().X) <= 625


def test_nothing_and_what_lies_beyond_the_grid() -> None:
    cloud = GrowingCloud(0.1, 1, 1000)
    assert len(cloud.points().X) == 0
    add(cloud, np.array([[1e9, 0, 0], [0, 0, 1.0]]))
    assert len(cloud.points().X) == 1


def test_lonely_points() -> None:
    rng = np.random.default_rng(3)
    near = rng.uniform([-1, -1, 4], [1, 1, 6], (500, 3))
    far = 10 * rng.uniform([-1, -1, 4], [1, 1, 6], (500, 3))
    stray = np.array([[20.0, 0, 5], [0, 3, 5]])
    points = np.concatenate([near, far, stray])
    good = not_lonely(points, np.linalg.norm(points, axis=1))
    assert good[:1000].mean() > 0.97  # far points lie as close, as seen from the camera
    assert not good[1000:].any()
    assert not_lonely(stray, np.ones(2)).all()
