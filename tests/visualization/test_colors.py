"""Colours of flow and of numbers: directions and ends of the scale are where they should be."""

from __future__ import annotations

import colorsys

import numpy as np

from trianflow.visualization.colors import color_flow, color_scalar


def test_hue_is_direction_and_saturation_length() -> None:
    angles = np.arange(0, 360, 15)
    way = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], -1)
    flow = np.stack([way * length for length in (4.0, 2.0, 0.0, 9.0)])
    picture = color_flow(flow, 4.0)
    assert picture.shape == (4, 24, 3)
    assert picture.dtype == np.uint8
    for i, angle in enumerate(angles):
        full = np.array(colorsys.hsv_to_rgb(angle / 360, 1, 1)) * 255
        half = np.array(colorsys.hsv_to_rgb(angle / 360, 0.5, 1)) * 255
        for row, expected in ((0, full), (1, half), (2, np.full(3, 255.0)), (3, full)):
            assert np.abs(picture[row, i] - expected).max() <= 1
    assert picture[0, 0].tolist() == [255, 0, 0], "to the right is red"


def test_flow_scales_itself_and_unknown_is_black() -> None:
    flow = np.zeros((10, 10, 2))
    flow[:, :, 0] = 5.0
    flow[0, 0] = np.nan
    flow[0, 1] = [np.inf, 0]
    picture = color_flow(flow)
    assert (picture[0, :2] == 0).all()
    assert (picture[1:] == [255, 0, 0]).all()
    assert np.array_equal(picture, color_flow(flow * 1000))
    assert (color_flow(np.zeros((3, 4, 2))) == 255).all()
    assert (color_flow(np.full((3, 4, 2), np.nan)) == 0).all()


def test_numbers_grow_brighter() -> None:
    values = np.linspace(0, 1, 256)[None].repeat(2, 0)
    picture = color_scalar(values, 0, 1)
    assert picture.shape == (2, 256, 3)
    assert picture.dtype == np.uint8
    luma = picture[0] @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > -1.0).all()
    assert luma[0] < 5
    assert luma[-1] > 230
    assert picture[0, 128, 0] > 1.3 * picture[0, 128, 1], "magma is purple in its middle"
    assert np.array_equal(color_scalar(values * 10 + 3, 3, 13), picture)


def test_ends_of_the_scale() -> None:
    values = np.array([[-5.0, 0.0, 1.0, 7.0, np.nan, np.inf]])
    picture = color_scalar(values, 0, 1)
    assert np.array_equal(picture[0, 0], picture[0, 1])
    assert np.array_equal(picture[0, 2], picture[0, 3])
    assert (picture[0, 4:] == 0).all()
    outlier = np.linspace(0, 1, 1000)[None].copy()
    outlier[0, 0] = -1e9
    assert color_scalar(outlier)[0, -1].sum() > 600, "by percentiles"
    assert len(np.unique(color_scalar(np.full((3, 4), 2.0)).reshape(-1, 3), axis=0)) == 1
    assert (color_scalar(np.full((3, 4), np.nan)) == 0).all()
