"""Colours of flow and of numbers: directions and ends of the scale are where they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trianflow.visualization.colors import color_depth, color_flow, color_scalar, depth_range, flow_range


def wheel() -> list[tuple[float, float, float]]:
    """The 55 colours of the Middlebury wheel, written down run by run."""
    colors: list[tuple[float, float, float]] = []
    colors += [(255, 255 * i / 15, 0) for i in range(15)]
    colors += [(255 - 255 * i / 6, 255, 0) for i in range(6)]
    colors += [(0, 255, 255 * i / 4) for i in range(4)]
    colors += [(0, 255 - 255 * i / 11, 255) for i in range(11)]
    colors += [(255 * i / 13, 0, 255) for i in range(13)]
    colors += [(255, 0, 255 - 255 * i / 6) for i in range(6)]
    return colors


def reference(u: float, v: float, largest: float) -> list[float]:
    """One vector in Middlebury's colours, step by step as published."""
    colors, length = wheel(), math.hypot(u, v) / largest
    place = (math.atan2(-v, -u) / math.pi + 1) / 2 * (len(colors) - 1)
    first = int(place)
    share = place - first
    mixed = []
    for channel in range(3):
        value = (1 - share) * colors[first][channel] + share * colors[(first + 1) % len(colors)][channel]
        mixed.append(255 - length * (255 - value) if length <= 1 else 0.75 * value)
    return mixed


@pytest.mark.parametrize(
    ("way", "color"),
    [((1, 0), (255, 0, 0)), ((0, 1), (255, 230, 0)), ((-1, 0), (0, 209, 255)), ((0, -1), (88, 0, 255))],
)
def test_four_directions_of_the_wheel(way: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Right, down, left and up, at full length, half of it, none, and beyond."""
    flow = np.array([[np.array(way) * length for length in (4.0, 2.0, 0.0, 9.0)]])
    full = np.array(color)
    for found, expected in zip(color_flow(flow, 4.0)[0], (full, (255 + full) / 2, 255, 0.75 * full)):
        assert np.abs(found - expected).max() <= 1


def test_flow_is_colored_as_published() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (20, 30, 2))
    expected = np.array([[reference(u, v, 5.0) for u, v in row] for row in flow.tolist()])
    picture = color_flow(flow, 5.0)
    assert picture.shape == (20, 30, 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() <= 1
    assert np.array_equal(color_flow(flow.astype(np.float32), 5.0), picture)


def test_flow_scales_itself_and_unknown_is_black() -> None:
    flow = np.zeros((10, 10, 2))
    flow[:, :, 0] = 5.0
    flow[0, 0] = np.nan
    flow[0, 1] = [np.inf, 0]
    picture = color_flow(flow)
    assert flow_range(flow) == 5
    assert (picture[0, :2] == 0).all()
    assert (picture[1:] == [255, 0, 0]).all()
    assert np.array_equal(picture, color_flow(flow * 1000))
    assert (color_flow(np.zeros((3, 4, 2))) == 255).all()
    assert (color_flow(np.full((3, 4, 2), np.nan)) == 0).all()


def test_depth_is_colored_by_its_inverse() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 100.0, 0.0, np.nan, -1.0, np.inf]], np.float32)
    picture = color_depth(depth, (1.0, 4.0))
    assert np.array_equal(picture[:, :4], color_scalar(1 / depth[:, :4], 0.25, 1))
    assert (picture[0, 4:] == 0).all(), "unknown"
    luma = picture[0, :4] @ [0.299, 0.587, 0.114]
    assert luma[0] > luma[1] > luma[2] == luma[3] > 0, "near is bright, far is not black"
    uniform = np.linspace(0.1, 1, 1000, dtype=np.float32)
    assert depth_range(1 / uniform[None]) == pytest.approx((1 / 0.982, 1 / 0.118))
    nothing = np.zeros((2, 3), np.float32)
    assert depth_range(nothing) == (1, 2)
    assert (color_depth(nothing) == 0).all()
    assert len(np.unique(color_depth(np.full((2, 3), 5.0)).reshape(-1, 3), axis=0)) == 1


def test_numbers_grow_brighter() -> None:
    values = np.linspace(0, 1, 256)[None].repeat(2, 0)
    picture = color_scalar(values, 0, 1)
    assert picture.shape == (2, 256, 3)
    assert picture.dtype == np.uint8
    luma = picture[0] @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > -1.0).all()
    assert 20 < luma[0] < 40, "not the black of the unknown"
    assert luma[-1] > 200
    assert picture[0, 128].argmin() == 0, "viridis is blue green in its middle"
    assert np.array_equal(color_scalar(values * 10 + 3, 3, 13), picture)


def test_ends_of_the_scale() -> None:
    values = np.array([[-5.0, 0.0, 1.0, 7.0, np.nan, np.inf]])
    picture = color_scalar(values, 0, 1)
    assert np.array_equal(picture[0, 0], picture[0, 1])
    assert np.array_equal(picture[0, 2], picture[0, 3])
    assert (picture[0, 4:] == 0).all()
    outlier = np.linspace(0, 1, 1000)[None].copy()
    outlier[0, 0] = -1e9
    assert color_scalar(outlier)[0, -1].sum() > 450, "by percentiles"
    assert len(np.unique(color_scalar(np.full((3, 4), 2.0)).reshape(-1, 3), axis=0)) == 1
    assert (color_scalar(np.full((3, 4), np.nan)) == 0).all()
