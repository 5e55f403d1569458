"""Drawing on pictures: legends of flow and depth, motion vectors, epipolar lines, a trajectory from above.

All pictures are `(H, W, 3)` uint8 RGB and contiguous; what is called `draw_` changes the one it is given.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from trianflow.visualization.colors import color_depth, color_flow, color_scalar, depth_range, flow_range

Color = tuple[int, int, int]
WHITE, GREY, DARK = (240, 243, 247), (150, 158, 170), (24, 28, 34)
INLIER, OUTLIER = (64, 224, 208), (255, 110, 50)  # told apart with any colour vision
_LINES: tuple[Color, ...] = (
    (255, 214, 90),
    (250, 140, 220),
    (150, 230, 120),
    (130, 190, 255),
    (255, 160, 110),
    (200, 170, 255),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN = 0.06  # around a trajectory, share of the picture


def blank(height: int, width: int) -> np.ndarray:
    """A dark picture."""
    return cv2.merge([np.full((height, width), value, np.uint8) for value in DARK])


def put_text(picture: np.ndarray, text: str, at: tuple[float, float], size: float = 12, color: Color = WHITE) -> int:
    """Write a line on a darkened ground, so that it can be read on anything.

    Args:
        picture: changed.
        text: what is not ASCII becomes `?`.
        at: left end of the base line, pixels.
        size: height of a capital letter, pixels.
        color: RGB.

    Returns:
        Where the text ends, pixels from the left.
    """
    text = text.encode("ascii", "replace").decode()
    x, y, end, edge = round(at[0]), round(at[1]), round(at[0]) + text_width(text, size), round(0.45 * size)
    picture[max(y - round(size) - edge, 0) : max(y + edge, 0), max(x - edge, 0) : max(end + edge, 0)] //= 3
    cv2.putText(picture, text, (x, y), _FONT, size / 21, color, _weight(size), cv2.LINE_AA)
    return end


def text_width(text: str, size: float = 12) -> int:
    """Width of a line of `put_text`, pixels."""
    return int(cv2.getTextSize(text, _FONT, size / 21, _weight(size))[0][0])


def _weight(size: float) -> int:
    return max(1, round(size / 10))


def fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image `(h, w)` or `(h, w, 3)` uint8 as an RGB picture of a size."""
    way = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    sized = cv2.resize(image, (width, height), interpolation=way)
    return cv2.cvtColor(sized, cv2.COLOR_GRAY2RGB) if sized.ndim == 2 else sized


def resizing(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where pixels of an image `(h, w, ...)` lie at another size: `(3, 3)` float64, S with p' = S p (homogeneous)."""
    x, y = width / image.shape[1], height / image.shape[0]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


# --- legends ------------------------------------------------------------------------------------------------


def draw_flow_key(picture: np.ndarray, centre: tuple[int, int], radius: int, largest: float) -> None:
    """Draw Middlebury's wheel, and below it the length of flow that its rim stands for.

    Args:
        picture: changed; a wheel that does not lie in it whole is left out.
        centre: of the wheel, (x, y) pixels.
        radius: of the wheel, pixels.
        largest: length of full saturation, pixels of the image.
    """
    x, y = centre
    if radius < 4 or min(x, y) < radius or x + radius >= picture.shape[1] or y + radius >= picture.shape[0]:
        return
    span = np.arange(-radius, radius + 1) / radius
    flow = np.stack(np.meshgrid(span, span), -1)
    place = picture[y - radius : y + radius + 1, x - radius : x + radius + 1]
    inside = np.hypot(flow[..., 0], flow[..., 1]) <= 1
    place[inside] = color_flow(flow, 1.0)[inside]
    cv2.circle(picture, centre, radius, (0, 0, 0), 1, cv2.LINE_AA)
    text, size = f"{largest:.3g} px", max(8.0, radius / 4.5)
    put_text(picture, text, (x - text_width(text, size) / 2, y + radius + 1.7 * size), size)


def draw_depth_key(
    picture: np.ndarray, at: tuple[int, int], height: int, ends: tuple[float, float], unit: str, size: float = 10
) -> None:
    """Draw the scale of `color_depth`, near above, with ticks at round depths.

    Args:
        picture: changed.
        at: upper left corner, (x, y) pixels.
        height: of the bar, pixels; its text needs twice its own height more below.
        ends: depths of the brightest and the darkest colour.
        unit: of the depths, written below.
        size: of the text, pixels.
    """
    (x, y), width = at, max(6, round(size))
    inverse = np.linspace(1 / ends[0], 1 / ends[1], height)[:, None].repeat(width, 1)
    area = picture[y : y + height, x : x + width]
    area[:] = color_scalar(inverse, 1 / ends[1], 1 / ends[0])[: area.shape[0], : area.shape[1]]
    cv2.rectangle(picture, (x - 1, y - 1), (x + width, y + height), (0, 0, 0), 1)
    for depth, row in depth_ticks(ends, height, 2.2 * size):
        cv2.line(picture, (x + width - 2, y + row), (x + width + 3, y + row), WHITE, 1)
        put_text(picture, f"{depth:g}", (x + width + 6, y + row + size / 2), size)
    put_text(picture, unit, (x, y + height + 1.8 * size), size)


def depth_ticks(ends: tuple[float, float], height: int, apart: float) -> list[tuple[float, int]]:
    """Round depths on the scale of `color_depth`: 1, 1.5, 2, 3, 5, 7 and their tenfolds.

    Args:
        ends: depths at the top and at the bottom.
        height: of the scale, pixels.
        apart: smallest distance between two ticks, pixels.

    Returns:
        Depths and their rows from the top, near first; where fewer than two are round, those of the two ends.
    """
    near, far = ends
    if not 0 < near < far:
        return []
    decades = range(math.floor(math.log10(near)), math.ceil(math.log10(far)) + 1)
    ticks: list[tuple[float, int]] = []
    for depth in (digit * 10.0**decade for decade in decades for digit in (1, 1.5, 2, 3, 5, 7)):
        row = round((1 / near - 1 / depth) / (1 / near - 1 / far) * (height - 1))
        if near <= depth <= far and (not ticks or row - ticks[-1][1] >= apart):
            ticks.append((float(f"{depth:.3g}"), row))
    if len(ticks) < 2 and height - 1 >= apart:
        return [(float(f"{near:.3g}"), 0), (float(f"{far:.3g}"), height - 1)]
    return ticks


def flow_picture(flow: np.ndarray) -> np.ndarray:
    """A flow field `(H, W, 2)` in colours, with the wheel as a legend on a margin to its right: `(H, W + m, 3)`."""
    largest = flow_range(flow)
    picture, left = _with_margin(color_flow(flow, largest))
    radius = min((picture.shape[1] - left) // 2 - 8, picture.shape[0] // 2 - 12)
    draw_flow_key(picture, (left + (picture.shape[1] - left) // 2, radius + 8), radius, largest)
    return picture


def depth_picture(depth: np.ndarray, unit: str) -> np.ndarray:
    """Depths `(H, W)` in colours, with their scale on a margin to the right: `(H, W + m, 3)`.

    Args:
        depth: along z, 0 where unknown.
        unit: `m`, or what else they are in.
    """
    ends = depth_range(depth)
    picture, left = _with_margin(color_depth(depth, ends))
    size = max(8.0, (picture.shape[1] - left) / 11)
    height = picture.shape[0] - round(4 * size)
    if height > 0:
        draw_depth_key(picture, (left + round(size), round(size)), height, ends, unit, size)
    return picture


def _with_margin(picture: np.ndarray) -> tuple[np.ndarray, int]:
    """The picture with room for a legend to its right, and where that begins."""
    height, width = picture.shape[:2]
    return np.concatenate([picture, blank(height, round(max(72, 0.1 * width)))], 1), width


# --- matches ------------------------------------------------------------------------------------------------


def spread(p: np.ndarray, cell: float, score: np.ndarray | None = None) -> np.ndarray:
    """Points that are spread evenly: of each cell of a square grid the one of best score, else the first.

    Args:
        p: `(N, 2)` pixels.
        cell: side of the cells, pixels.
        score: `(N,)`, higher is better.

    Returns:
        `(M,)` int64 indices, rising.
    """
    order = np.arange(len(p)) if score is None else np.argsort(-score, kind="stable")
    cells = np.floor(p[order] / cell).astype(np.int64)
    return np.sort(order[np.unique(cells, axis=0, return_index=True)[1]])


def draw_motion(
    picture: np.ndarray, p_a: np.ndarray, p_b: np.ndarray, color: Color, longest: float, thickness: int = 1
) -> None:
    """Draw where points are, with a tail towards where they come from.

    Args:
        picture: of b; changed.
        p_a, p_b: `(N, 2)` pixels of the picture.
        color: RGB.
        longest: tails end after so many pixels.
        thickness: pixels.
    """
    back = p_a - p_b
    length = np.linalg.norm(back, axis=1, keepdims=True)
    tail = p_b + back * np.minimum(1, longest / np.maximum(length, 1e-9))
    lines = np.stack([tail, p_b], 1)
    cv2.polylines(picture, list((lines * 16).round().astype(np.int32)), False, color, thickness, cv2.LINE_AA, 4)
    for x, y in p_b.round().astype(int).tolist():
        cv2.circle(picture, (x, y), thickness, color, -1, cv2.LINE_AA)


def draw_epipolar_lines(picture: np.ndarray, F_ba: np.ndarray, p_a: np.ndarray, p_b: np.ndarray) -> None:
    """Draw the line on which each point of a must lie in b, and the point that was found there.

    Args:
        picture: of b; changed.
        F_ba: `(3, 3)`; nothing is drawn where it is zero.
        p_a, p_b: `(N, 2)` pixels of the picture.
    """
    height, width = picture.shape[:2]
    for i, (line, p) in enumerate(zip(np.c_[p_a, np.ones(len(p_a))] @ F_ba.T, p_b.tolist())):
        ends = line_ends(line, height, width)
        if ends is None:
            continue
        color = _LINES[i % len(_LINES)]
        (x0, y0), (x1, y1) = ends.round().astype(int).tolist()
        cv2.line(picture, (x0, y0), (x1, y1), color, 1, cv2.LINE_AA)
        cv2.circle(picture, (round(p[0]), round(p[1])), 5, color, 2, cv2.LINE_AA)


def line_ends(line: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """Where a line a x + b y + c = 0, `(3,)`, enters and leaves a picture: `(2, 2)` pixels; None where it misses it."""
    a, b, c = line.tolist()
    right, bottom = width - 1, height - 1
    found = [(x, -(a * x + c) / b) for x in (0, right) if abs(b) > 1e-12]
    found += [(-(b * y + c) / a, y) for y in (0, bottom) if abs(a) > 1e-12]
    inside = [(x, y) for x, y in found if -1e-6 <= x <= right + 1e-6 and -1e-6 <= y <= bottom + 1e-6]
    if len(inside) < 2:
        return None
    ends = np.array([min(inside), max(inside)])
    return ends if np.ptp(ends, axis=0).max() > 0 else None


# --- trajectory ---------------------------------------------------------------------------------------------


def trajectory_picture(positions: np.ndarray, height: int, width: int, unit: str = "units") -> np.ndarray:
    """A trajectory from above, one scale for both axes: x to the right, z up; a disc at its start, a square at its end.

    Args:
        positions: `(N, 3)` camera centres, N >= 1.
        height, width: of the picture, pixels.
        unit: written beside the bar that shows the scale.
    """
    picture = blank(height, width)
    points, scale = to_picture(positions[:, [0, 2]], height, width)
    cv2.polylines(picture, [(points * 16).round().astype(np.int32)], False, INLIER, 2, cv2.LINE_AA, 4)
    (x0, y0), (x1, y1) = points[[0, -1]].round().astype(int).tolist()
    cv2.circle(picture, (x0, y0), 5, WHITE, -1, cv2.LINE_AA)
    cv2.rectangle(picture, (x1 - 4, y1 - 4), (x1 + 4, y1 + 4), (255, 214, 90), -1, cv2.LINE_AA)
    if np.ptp(positions[:, [0, 2]], axis=0).max() > 0:
        length = round_below(0.3 * width / scale)
        left, bottom = round(_MARGIN * width), height - 10
        cv2.line(picture, (left, bottom), (left + round(length * scale), bottom), WHITE, 2)
        put_text(picture, f"{length:g} {unit}", (left, bottom - 7), 10)
    return picture


def to_picture(plane: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float]:
    """Points of a plane, y up, as pixels of a picture that holds them all, with one scale for both axes.

    Args:
        plane: `(N, 2)`.
        height, width: of the picture, pixels.

    Returns:
        `(N, 2)` pixels, y down, and the pixels of a unit (1 where all points are one).
    """
    low, high = plane.min(0), plane.max(0)
    room = np.maximum(np.array([width, height]) * (1 - 2 * _MARGIN) - np.array([0, 48]), 8)  # title above, bar below
    extent = high - low
    scale = float(min(room[i] / extent[i] for i in (0, 1) if extent[i] > 0)) if extent.any() else 1.0
    centre = np.array([width, height]) / 2
    return centre + (plane - (low + high) / 2) * [scale, -scale], scale


def round_below(value: float) -> float:
    """The largest of 1, 2, 5 and their tenfolds that is not above a positive number."""
    decade = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{digit * decade:.1g}") for digit in (5, 2, 1) if digit * decade <= value * (1 + 1e-9))
