"""Which pixels a protocol scores, and how predictions are laid over them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from trianflow.errors import UsageError
from trianflow.evaluation.depth_protocols import (
    METRICS,
    PROTOCOLS,
    ImagePair,
    crop_window,
    fit_prediction,
    select_pixels,
)
from trianflow.evaluation.published import published_rows

PLAIN = PROTOCOLS["plain"]


def test_crops() -> None:
    assert crop_window("garg", (375, 1242)) == (slice(153, 371), slice(44, 1197))
    assert crop_window("eigen", (375, 1242)) == (slice(124, 342), slice(44, 1197))
    assert crop_window("nyuv2", (480, 640)) == (slice(44, 471), slice(40, 601))
    assert crop_window("nyuv2", (427, 561)) == (slice(0, 427), slice(0, 561))
    assert crop_window("make3d", (55, 305)) == (slice(17, 38), slice(0, 305))
    assert crop_window("make3d", (2272, 1704)) == (slice(710, 1562), slice(0, 1704))
    assert crop_window("make3d", (21, 305)) == (slice(0, 21), slice(0, 305))
    assert crop_window("make3d", (852, 1704)) == (slice(0, 852), slice(0, 1704))
    assert crop_window("none", (3, 5)) == (slice(0, 3), slice(0, 5))
    with pytest.raises(UsageError, match="truth of 1242x375 pixels"):
        crop_window("nyuv2", (375, 1242))
    with pytest.raises(UsageError, match="truth of 832x256 pixels: the crop of Make3D is for 1704x2272"):
        crop_window("make3d", (256, 832))
    with pytest.raises(UsageError, match="'graz'"):
        crop_window("graz", (375, 1242))


def test_protocols_print_what_their_papers_print() -> None:
    assert set(PROTOCOLS) == {"eigen", "eigen50", "nyuv2", "make3d", "plain"}
    caps = {name: protocol.largest for name, protocol in PROTOCOLS.items()}
    assert caps == {"eigen": 80, "eigen50": 50, "nyuv2": 80, "make3d": 70, "plain": np.inf}
    for protocol in PROTOCOLS.values():
        assert set(protocol.metrics) <= set(METRICS)
        if protocol.published:
            printed = {key for row in published_rows(protocol.published) for key in row.values}
            assert printed <= set(protocol.metrics)


def test_caps_are_strict_and_the_crop_holds() -> None:
    truth = np.zeros((100, 100), np.float32)
    truth[50, 50:55] = (1e-3, 80, 79.9, np.nan, 2e-3)
    truth[0, 0] = 5
    pair = select_pixels("a", truth, np.ones((100, 100)), PROTOCOLS["eigen"])
    np.testing.assert_array_equal(pair.truth, np.float32([79.9, 2e-3]))
    everywhere = replace(PROTOCOLS["eigen"], crop="none")
    assert len(select_pixels("a", truth, np.ones((100, 100)), everywhere).truth) == 3


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel bilinear resizing with borders repeated, one pixel at a time."""
    (h, w), (H, W) = image.shape, size
    out = np.zeros(size)
    for i in range(H):
        for j in range(W):
            y, x = np.clip((i + 0.5) * h / H - 0.5, 0, h - 1), np.clip((j + 0.5) * w / W - 0.5, 0, w - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out


def test_disparities_are_resized_whichever_is_given() -> None:
    rng = np.random.default_rng(0)
    given = rng.uniform(0.1, 2, (6, 9))
    expected = 1 / bilinear(given, (15, 20))
    np.testing.assert_allclose(fit_prediction(given, (15, 20), disparity=True), expected, rtol=1e-5)
    np.testing.assert_allclose(fit_prediction(1 / given, (15, 20)), expected, rtol=1e-5)
    np.testing.assert_array_equal(fit_prediction(given, (6, 9)), given.astype(np.float32))
    np.testing.assert_allclose(fit_prediction(given, (6, 9), disparity=True), 1 / given, rtol=1e-6)


def test_a_hard_edge_is_enlarged_as_in_the_tests_of_trianflow_and_monodepth2() -> None:
    depth = np.full((4, 8), 2.0, np.float32)
    depth[:, 4:] = 50
    reference = 1 / cv2.resize(1 / depth, (24, 12))
    np.testing.assert_allclose(fit_prediction(depth, (12, 24)), reference, rtol=1e-6)
    near, far = fit_prediction(depth, (4, 16))[0, 7:9]  # a quarter of the way from 2 m to 50 m, and three quarters
    assert (near, far) == pytest.approx((1 / (0.75 / 2 + 0.25 / 50), 1 / (0.25 / 2 + 0.75 / 50)))
    depth[0, 4] = 0
    holed = fit_prediction(depth, (12, 24))
    assert np.isnan(holed[1, 13])  # the middle of it
    np.testing.assert_allclose(holed[~np.isnan(holed)], reference[~np.isnan(holed)], rtol=1e-6)
    assert np.isnan(holed).sum() <= 5 * 6


def test_unknown_predictions_stay_unknown() -> None:
    given = np.full((4, 4), 2.0)
    given[0, 0], given[3, 3], given[0, 3], given[3, 0] = 0, np.nan, -1, np.inf
    for disparity in (False, True):
        depth = fit_prediction(given, (4, 4), disparity=disparity)
        assert np.isnan(depth[[0, 3, 0, 3], [0, 3, 3, 0]]).all()
        assert (depth[1:3] == (0.5 if disparity else 2)).all()
    enlarged = fit_prediction(given, (16, 16))
    assert np.isnan(enlarged[0, 0])
    assert set(enlarged[np.isfinite(enlarged)]) == {2.0}


def test_the_central_rows_of_make3d() -> None:
    """Depth as of the whole image, and as of the crop alone, which foreign methods predict."""
    truth = np.full((55, 305), 7.0, np.float32)
    rows = np.arange(1, 56.0)[:, None] * np.ones((1, 305))
    whole = select_pixels("a", truth, rows, PROTOCOLS["make3d"])
    np.testing.assert_array_equal(whole.depth.reshape(21, 305)[:, 0], np.arange(18, 39))
    crop = np.random.default_rng(0).uniform(1, 60, (42, 61))
    found = select_pixels("a", truth[17:38], crop, PROTOCOLS["make3d"])
    assert len(found.truth) == 21 * 305
    np.testing.assert_allclose(found.depth.reshape(21, 305), 1 / bilinear(1 / crop, (21, 305)), rtol=1e-5)


def test_the_ratio_is_of_what_is_known() -> None:
    depth = np.float32([1, np.nan, 3, 2])
    assert ImagePair("a", np.float32([10, 500, 20, 60]), depth).ratio == 10
    assert ImagePair("a", np.float32([10]), np.float32([np.nan])).ratio is None
    assert PLAIN.label == "no crop, from 0.001 m"
