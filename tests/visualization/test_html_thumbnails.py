"""Pictures of some frames: which, how many, and what is drawn."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
import torch

from tests.visualization.html_pages import a_frame
from trianflow.flow.interface import FlowPair
from trianflow.visualization import overlay as draw
from trianflow.visualization.colors import color_depth, color_flow
from trianflow.visualization.html_thumbnails import (
    DOUBTFUL,
    HIDDEN,
    FrameView,
    Picture,
    Thumbnails,
    depth_key,
    draw_layers,
    flow_key,
)

GREY = np.full((40, 80), 128, np.uint8)


def pixels(picture: Picture) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(picture.jpeg), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(int)


@pytest.mark.parametrize("number", [1, 5, 8, 9, 17, 100, 1000])
def test_frames_are_spread_evenly_and_few(number: int) -> None:
    thumbnails, asked = Thumbnails(limit=8), []
    for row in range(number):
        thumbnails.offer(row, lambda row=row: asked.append(row) or FrameView(GREY))
    rows = thumbnails.rows
    assert len(rows) == len(thumbnails.pictures) <= 8
    assert len(rows) >= min(number, 4)
    stride = int(np.ceil(number / 8))
    stride = 1 << (stride - 1).bit_length()
    assert rows == list(range(0, number, stride))
    assert set(rows) <= set(asked)
    assert len(asked) <= 8 + 4 * np.log2(max(number / 8, 1)) + 4  # of a thousand frames, a few dozen are drawn


def test_a_frame_that_cannot_be_used_gives_way_to_the_next() -> None:
    thumbnails = Thumbnails(limit=4)
    for row in range(40):
        if row % 16:
            thumbnails.offer(row, lambda: FrameView(GREY))
    assert len(thumbnails.rows) in (2, 3, 4)
    assert np.diff(thumbnails.rows).min() >= 8


def test_layers_are_what_is_known() -> None:
    assert set(draw_layers(FrameView(GREY), 400)) == {"image"}
    assert set(draw_layers(a_frame(), 400)) == {"image", "flow", "occlusion", "inliers", "depth"}
    assert set(draw_layers(FrameView(GREY, depth=np.zeros((40, 80), np.float32)), 400)) == {"image"}
    assert set(draw_layers(FrameView(GREY, points=np.zeros((0, 3))), 400)) == {"image"}


def test_size_is_that_of_the_width_or_of_the_image() -> None:
    assert pixels(draw_layers(a_frame(310, 94), 155)["flow"]).shape == (47, 155, 3)
    assert pixels(draw_layers(FrameView(GREY), 400)["image"]).shape == (40, 80, 3)
    np.testing.assert_allclose(pixels(draw_layers(FrameView(GREY), 400)["image"]), 128, atol=2)


def test_flow_has_the_colour_of_its_direction() -> None:
    frame = a_frame()
    shown = pixels(draw_layers(FrameView(np.full((94, 310), 255, np.uint8), frame.flow), 310)["flow"])
    right = color_flow(np.full((1, 1, 2), [5.0, 0.0]), 5.0)[0, 0].astype(int)
    np.testing.assert_allclose(shown.mean((0, 1)), right, atol=12)
    assert draw_layers(frame, 310)["flow"].caption == "up to 5 px"


def test_hidden_and_doubtful_pixels_are_told_apart() -> None:
    flow_ab = torch.zeros(1, 2, 40, 80)
    flow_ba = flow_ab.clone()
    flow_ba[..., 60:] = 30.0  # the right of b comes from outside; a goes elsewhere
    flow_ab[:, 0, :, :20] = 20.0  # nothing of a lands on the left of b
    shown = pixels(draw_layers(FrameView(GREY, FlowPair(flow_ab, flow_ba)), 80)["occlusion"])
    for columns, color in ((slice(2, 17), HIDDEN), (slice(63, 78), DOUBTFUL), (slice(43, 57), None)):
        expected = np.full(3, 128.0) if color is None else 0.4 * 128 + 0.6 * np.array(color)
        np.testing.assert_allclose(shown[4:36, columns].mean((0, 1)), expected, atol=12)


def test_matches_that_fit_and_those_that_do_not() -> None:
    p_b = np.array([[20.0, 20.0], [60.0, 20.0]])
    frame = FrameView(np.zeros((40, 80), np.uint8), p_a=p_b - [0, 3], p_b=p_b, inlier=np.array([True, False]))
    picture = draw_layers(frame, 80)["inliers"]
    assert picture.caption == "50 % fit"
    shown = pixels(picture)
    for x, color in ((20, draw.INLIER), (60, draw.OUTLIER)):
        patch = shown[16:25, x - 4 : x + 5].reshape(-1, 3)
        mean = patch[patch.sum(1).argmax()] / patch.max()
        assert np.argmax(mean) == np.argmax(color)
    empty = FrameView(GREY, p_a=np.zeros((0, 2)), p_b=np.zeros((0, 2)), inlier=np.zeros(0, bool))
    assert draw_layers(empty, 80)["inliers"].caption == "no matches"


def test_depth_is_drawn_whole_or_in_points() -> None:
    depth = np.full((40, 80), 2.0, np.float32)
    depth[:, 40:] = 20
    picture = draw_layers(FrameView(np.full((40, 80), 255, np.uint8), depth=depth, unit="m"), 80)["depth"]
    assert picture.caption == "2 to 20 m"
    expected = color_depth(depth, (2.0, 20.0)).astype(int)
    np.testing.assert_allclose(pixels(picture)[5:35, 5:35], expected[5:35, 5:35], atol=15)
    points = np.array([[20.0, 20.0, 2.0], [60.0, 20.0, 20.0]])
    picture = draw_layers(FrameView(np.zeros((40, 80), np.uint8), points=points, unit="units"), 80)["depth"]
    assert picture.caption.endswith("units")
    shown = pixels(picture)
    assert shown[20, 20].sum() > 250 > shown[5, 40].sum()  # near is bright, nothing is black


def test_points_lie_where_the_smaller_image_has_them() -> None:
    """The centre of a white square of 8 pixels is between two pixels, at 4 times smaller size in one."""
    image = np.zeros((80, 160), np.uint8)
    image[40:48, 80:88] = 255
    points = np.array([[83.5, 43.5, 2.0]])
    layers = draw_layers(
        FrameView(image, points=points, p_a=points[:, :2], p_b=points[:, :2], inlier=np.ones(1, bool)), 40
    )
    white, place = np.argwhere(pixels(layers["image"])[..., 0] > 128), points[:, :2] @ np.diag([0.25, 0.25]) - 0.375
    assert place[0] == pytest.approx(white.mean(0)[::-1])
    S = draw.resizing(image, 20, 40)
    np.testing.assert_allclose(S @ [83.5, 43.5, 1], [*place[0], 1])
    np.testing.assert_allclose(S @ [-0.5, -0.5, 1], [-0.5, -0.5, 1])
    np.testing.assert_allclose(S @ [159.5, 79.5, 1], [39.5, 19.5, 1])


def test_keys_are_pictures() -> None:
    for key, shape in ((flow_key(64), (64, 64, 4)), (depth_key(32), (1, 32, 3))):
        data = base64.b64decode(key.removeprefix("data:image/png;base64,"))
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == shape
