"""What is drawn on pictures lies where it should."""

from __future__ import annotations

import numpy as np
import pytest

from trianflow.visualization import overlay as draw
from trianflow.visualization.colors import color_depth, color_flow

RED = (255, 0, 0)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """`(N, 2)` pixels, x first, of exactly this colour."""
    return np.argwhere((picture == color).all(-1))[:, ::-1]


def test_text_is_readable_on_anything() -> None:
    for ground in (0, 128, 255):
        picture = np.full((40, 200, 3), ground, np.uint8)
        end = draw.put_text(picture, "frame 12", (10, 25), 12)
        changed = np.flatnonzero((picture != ground).any((0, 2))) if ground else where(picture, draw.WHITE)[:, 0]
        assert 3 <= changed.min() <= 14
        assert end - 8 <= changed.max() <= end + 6
        assert end == 10 + draw.text_width("frame 12")
        assert (picture.max(-1) > 200).any()
        assert (picture[10:30, 10:end].max(-1) < 100).mean() > 0.4, "a dark ground behind it"
    tiny = np.zeros((4, 4, 3), np.uint8)
    draw.put_text(tiny, "naïve °", (-30, 100))


def test_wheel_is_that_of_the_flow() -> None:
    picture = np.zeros((120, 120, 3), np.uint8)
    draw.draw_flow_key(picture, (60, 45), 40, 12.5)
    for x, y in ((20, 0), (0, 20), (-20, 0), (0, -20), (14, -9)):
        expected = color_flow(np.array([[[x, y]]], float), 40.0)[0, 0]
        assert np.array_equal(picture[45 + y, 60 + x], expected)
    assert picture[:90, :15].max() == 0, "round, and no more"
    assert picture[95:].max() > 200, "its length"
    before = np.zeros((50, 50, 3), np.uint8)
    draw.draw_flow_key(before, (45, 25), 20, 1.0)
    assert before.max() == 0, "does not fit"


def test_depth_scale_agrees_with_the_colors() -> None:
    picture = draw.blank(240, 100)
    draw.draw_depth_key(picture, (10, 20), 200, (2.0, 50.0), "m")
    bar = picture[20:220, 11]
    ticks = draw.depth_ticks((2.0, 50.0), 200, 20)
    assert [depth for depth, _ in ticks] == [2, 3, 5, 7, 15]
    for depth, row in ticks:
        assert np.abs(bar[row].astype(int) - color_depth(np.array([[depth]]), (2.0, 50.0))[0, 0]).max() <= 3
        assert (picture[20 + row, 18:21] == draw.WHITE).all(), "its tick"
    assert draw.depth_ticks((3.21, 4.567), 200, 20) == [(3.21, 0), (4.57, 199)], "no two are round"
    assert draw.depth_ticks((2.5, 4.0), 200, 20) == [(2.5, 0), (4, 199)]
    assert draw.depth_ticks((2.5, 4.0), 15, 20) == [(3, 6)], "no room for both"
    assert draw.depth_ticks((1.0, 1.0), 200, 20) == []
    assert draw.depth_ticks((0.0, np.inf), 200, 20) == []


def test_pictures_with_a_legend() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (90, 160, 2))
    picture = draw.flow_picture(flow)
    assert picture.shape == (90, 160 + 72, 3)
    assert np.array_equal(picture[:, :160], color_flow(flow))
    assert len(np.unique(picture[:, 160:].reshape(-1, 3), axis=0)) > 100, "the wheel"
    depth = np.abs(flow[..., 0]).astype(np.float32)
    picture = draw.depth_picture(depth, "m")
    assert picture.shape == (90, 160 + 72, 3)
    assert np.array_equal(picture[:, :160], color_depth(depth))
    for height in (1, 8, 16, 40):  # too small for a legend
        assert len(draw.flow_picture(flow[:height])) == len(draw.depth_picture(depth[:height], "m")) == height


def test_points_are_spread_and_the_best_are_kept() -> None:
    p = np.array([[1, 1], [2, 2], [11, 1], [1, 11], [2, 12.0]])
    assert draw.spread(p, 10).tolist() == [0, 2, 3]
    assert draw.spread(p, 10, np.array([1, 2, 0, 3, 4.0])).tolist() == [1, 2, 4]
    assert draw.spread(p, 100).tolist() == [0]
    assert draw.spread(p[:0], 10).tolist() == []


def test_motion_comes_from_where_it_came_from() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    draw.draw_motion(picture, np.array([[50, 30.0]]), np.array([[80, 30.0]]), RED, 20)
    y, x = np.nonzero(picture[..., 0] > 60)
    assert (y.min(), y.max()) == (29, 31)
    assert (x.min(), x.max()) == (60, 82), "no longer than 20"
    picture[:] = 0
    draw.draw_motion(picture, np.zeros((0, 2)), np.zeros((0, 2)), RED, 20)
    draw.draw_motion(picture, np.array([[5, 5.0]]), np.array([[5, 5.0]]), RED, 20)
    assert np.ptp(where(picture, RED), 0).max() <= 2


def test_epipolar_lines_of_a_camera_that_moves_sideways_are_level() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    F_ba = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    draw.draw_epipolar_lines(picture, F_ba, np.array([[20, 40.0]]), np.array([[50, 40.0]]))
    row = picture[40]
    assert (row.max(-1) > 100).all(), "from side to side"
    assert picture[:30].max() == 0
    assert picture[35, 50].max() > 100, "a ring about the point"
    picture[:] = 0
    draw.draw_epipolar_lines(picture, np.zeros((3, 3)), np.array([[20, 40.0]]), np.array([[50, 40.0]]))
    assert picture.max() == 0


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ((0, 1, -10), [[0, 10], [99, 10]]),
        ((1, 0, -10), [[10, 0], [10, 59]]),
        ((1, -1, 0), [[0, 0], [59, 59]]),
        ((0, 1, 10), None),
        ((0, 0, 1), None),
        ((0, 0, 0), None),
    ],
)
def test_line_ends(line: tuple[float, float, float], ends: list[list[float]] | None) -> None:
    found = draw.line_ends(np.array(line, float), 60, 100)
    if ends is None:
        assert found is None
    else:
        assert found == pytest.approx(np.array(ends))


def test_a_trajectory_keeps_its_proportions() -> None:
    square = np.array([[0, 0, 0], [0, 5, 10], [10, 0, 10], [10, 0, 0.0]])
    points, scale = draw.to_picture(square[:, [0, 2]], 300, 200)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1) == pytest.approx([10 * scale] * 3)
    assert points[0, 1] > points[1, 1], "forward is up"
    assert points[0, 0] < points[2, 0], "right is right"
    assert (points > 0).all()
    assert (points < [200, 300]).all()
    picture = draw.trajectory_picture(square, 300, 200, "m")
    x, y = where(picture, draw.INLIER).T
    assert np.ptp(x) == pytest.approx(np.ptp(y), abs=9)
    assert np.ptp(x) == pytest.approx(10 * scale, abs=8)
    bar = np.flatnonzero((picture[290] == draw.WHITE).all(-1))
    assert np.ptp(bar) + 1 == pytest.approx(draw.round_below(60 / scale) * scale, abs=3)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_camera_that_stands(n: int) -> None:
    picture = draw.trajectory_picture(np.zeros((n, 3)), 120, 160)
    assert (picture != draw.blank(120, 160)).any()
    rise = np.stack([np.zeros(n), np.arange(n), np.zeros(n)], 1)
    assert np.array_equal(draw.trajectory_picture(rise, 120, 160), picture), "straight up is one place from above"


def test_round_numbers() -> None:
    values = (0.1, 0.19, 0.2, 0.5, 0.99, 1.0, 4.99, 5.0, 123456)
    assert [draw.round_below(v) for v in values] == [0.1, 0.1, 0.2, 0.5, 0.5, 1, 2, 5, 100000]


def test_images_become_pictures_of_a_size() -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert draw.fitted(grey, 12, 16).shape == (12, 16, 3)
    color = np.stack([grey, grey + 50, grey + 100], -1)
    assert np.array_equal(draw.fitted(color, 6, 8), color), "RGB stays RGB"
