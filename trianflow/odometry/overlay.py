"""A video of what the odometry sees: matches, flow, depth and the trajectory so far, beside every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from trianflow.data.frames import Frame
from trianflow.errors import UsageError
from trianflow.odometry.pair import Pair, Seen
from trianflow.odometry.path_so_far import PathSoFar
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import OdometryRun, prepare_output
from trianflow.odometry.step import Step, StepStatus
from trianflow.odometry.video_file import CODECS, VideoFileWriter
from trianflow.visualization import overlay as draw
from trianflow.visualization.colors import color_depth, color_flow, depth_range, flow_range

_WIDTH = 1280  # of the video, pixels, where the frames are not too tall for it
_TALLEST = 640  # of the frame in it, pixels
_STATUS = 34  # height of the line below, pixels
_CELL = 16  # a motion vector for each square of this side, pixels of the video
_LONGEST = 0.04  # tail of a motion vector, share of the width
_LINES = 6  # epipolar lines
_FORGETS = 0.9  # how fast the ends of the colours come back, a frame
_GOOD, _FAIR, _BAD = draw.INLIER, (255, 214, 90), draw.OUTLIER


@dataclass(frozen=True)
class Cell:
    """A rectangle of the video: left and upper end, width and height, pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, canvas: np.ndarray) -> np.ndarray:
        """This part of the canvas, which writing to it changes."""
        return canvas[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class Layout:
    """Where things are: beside a frame about as wide as high the rest stands in a column, below a wide one in a row.

    Attributes:
        width, height: of the video, even.
        main, flow, trajectory, status: its parts.
        depth: None without depth.
    """

    width: int
    height: int
    main: Cell
    flow: Cell
    depth: Cell | None
    trajectory: Cell
    status: Cell

    @classmethod
    def of(cls, width: int, height: int, has_depth: bool) -> Layout:
        """For frames of a size in pixels."""
        aspect, panels = width / height, 2 if has_depth else 1
        if aspect >= 2:
            main = Cell(0, 0, _WIDTH, _even(_WIDTH / aspect))
            tall = _even(max(min(_WIDTH / (panels * aspect + 1), 0.9 * main.height), 96))
            wide = min(_even(tall * aspect), _even((_WIDTH - tall) / panels))
            cells = [Cell(i * wide, main.height, wide, tall) for i in range(panels)]
            trajectory = Cell(panels * wide, main.height, _WIDTH - panels * wide, tall)
            end = main.height + tall
        else:
            column = min(_TALLEST / (panels / aspect + 0.8), 0.5 * _TALLEST * max(aspect, 1))
            shrink = min(1.0, _WIDTH / (_TALLEST * aspect + column))
            main = Cell(0, 0, _even(shrink * _TALLEST * aspect), _even(shrink * _TALLEST))
            wide, tall = _even(shrink * column), _even(shrink * column / aspect)
            cells = [Cell(main.width, i * tall, wide, tall) for i in range(panels)]
            trajectory = Cell(main.width, panels * tall, wide, main.height - panels * tall)
            end = main.height
        total = max(main.width, trajectory.x + trajectory.width)
        status = Cell(0, end, total, _STATUS)
        return cls(total, end + _STATUS, main, cells[0], cells[1] if has_depth else None, trajectory, status)


class Overlay:
    """An observer of `run_odometry` that writes a video: one picture for each frame, in constant memory.

    The frame with its matches as motion vectors (those that fit and those that do not) and the epipolar lines of a
    few; the flow since the key frame; depth where the first frame that can be read has some; the trajectory from
    above; and a line of figures. The video is written under a temporary name and gets its own when it is complete,
    also after an interruption.

    Args:
        path: the video, .mp4, .webm or .avi; its folder is made where it is missing.

    Raises:
        UsageError: another suffix, or the path is a folder.
        TrianflowError: the folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        if path.suffix.lower() not in CODECS:
            raise UsageError(f"{path}: a video ends in one of {', '.join(CODECS)}")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file")
        prepare_output(path.parent)
        self._path = path
        self._video = VideoFileWriter(path)
        self._early: list[tuple[Frame, Step]] = []  # before the first image: they have no size
        self._layout: Layout | None = None
        self._depth_unit = "m"
        self._trajectory = PathSoFar()
        self._largest = 0.0
        self._ends = (math.inf, 0.0)

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Draw a frame and append it to the video."""
        self._trajectory.add(odometry, step)
        if self._layout is None:
            seen = odometry.seen
            if seen is None:
                self._early.append((replace(frame, image=None, depth=None), step))
                return
            height, width = seen.prepared.image.shape[:2]
            self._layout = Layout.of(width, height, seen.prepared.depth is not None)
            self._depth_unit = "m" if frame.depth is not None else "network units"
            for early in self._early:
                self._video.write(self._picture(self._layout, None, *early), early[1].time)
            self._early.clear()
        self._video.write(self._picture(self._layout, odometry.seen, frame, step), step.time)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Complete the video.

        Raises:
            TrianflowError: it could not be written, or not one frame had an image.
        """
        self._video.close()
        return [run.named(self._path)]

    def abandon(self) -> None:
        """Give up the video; one of an earlier run stays."""
        self._video.discard()

    def _picture(self, layout: Layout, seen: Seen | None, frame: Frame, step: Step) -> np.ndarray:
        canvas = draw.blank(layout.height, layout.width)
        pair = None if seen is None else seen.pair
        _draw_frame(layout.main.of(canvas), frame, seen)
        self._draw_flow(layout.flow.of(canvas), pair, step)
        if layout.depth is not None:
            self._draw_depth(layout.depth.of(canvas), None if seen is None else seen.prepared.depth)
        place = layout.trajectory
        unit = self._trajectory.unit
        place.of(canvas)[:] = draw.trajectory_picture(self._trajectory.positions, place.height, place.width, unit)
        _title(place.of(canvas), "from above")
        _draw_status(layout.status.of(canvas), frame, step, unit)
        for cell in (layout.main, layout.flow, layout.depth, layout.trajectory):
            if cell is not None:
                corners = (cell.x, cell.y), (cell.x + cell.width - 1, cell.y + cell.height - 1)
                cv2.rectangle(canvas, *corners, (0, 0, 0), 1)
        return canvas

    def _draw_flow(self, place: np.ndarray, pair: Pair | None, step: Step) -> None:
        height, width = place.shape[:2]
        if pair is None:
            _title(place, "no flow")
            return
        flow = _sized(pair.flow.flow_ab[0].permute(1, 2, 0).numpy(), height, width)
        self._largest = max(flow_range(flow[::4, ::4]), _FORGETS * self._largest)
        place[:] = color_flow(flow, self._largest)
        radius = round(min(0.16 * height, 0.12 * width))
        draw.draw_flow_key(place, (width - radius - 14, height - round(1.75 * radius) - 4), radius, self._largest)
        _title(place, f"flow since frame {step.key_frame}")

    def _draw_depth(self, place: np.ndarray, depth: np.ndarray | None) -> None:
        height, width = place.shape[:2]
        if depth is None or not (depth > 0).any():
            _title(place, "no depth")
            return
        near, far = depth_range(depth[::4, ::4])
        near, far = min(near, self._ends[0] / _FORGETS), max(far, _FORGETS * self._ends[1])
        self._ends = near, far
        place[:] = color_depth(cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST), self._ends)
        key = width - (110 if self._depth_unit != "m" else 52)
        draw.draw_depth_key(place, (key, 10), height - 40, self._ends, self._depth_unit)
        _title(place, "depth")


def _even(value: float) -> int:
    """The even number of pixels next to a length, at least two."""
    return max(2, 2 * round(value / 2))


def _sized(field: np.ndarray, height: int, width: int) -> np.ndarray:
    """A field of vectors at another size, its vectors as they are."""
    return cv2.resize(np.ascontiguousarray(field), (width, height), interpolation=cv2.INTER_AREA)


def _title(place: np.ndarray, text: str) -> None:
    draw.put_text(place, text, (8, 18), 10)


def _draw_frame(place: np.ndarray, frame: Frame, seen: Seen | None) -> None:
    """The frame, with its matches where it was compared with a key frame."""
    image = frame.image if seen is None else seen.prepared.image
    height, width = place.shape[:2]
    if image is None:
        text = "no image" + (f": {frame.problem}" if frame.problem else "")
        draw.put_text(place, text, (width / 2 - draw.text_width("no image", 18) / 2, height / 2), 18, _BAD)
        return
    place[:] = draw.fitted(image, height, width)
    if seen is None or seen.pair is None:
        return
    S = draw.resizing(image, height, width)
    pair = seen.pair
    valid = pair.matches.valid[0].numpy()
    p_a, p_b = (p[0].double().numpy()[valid] @ S[:2, :2] + S[:2, 2] for p in (pair.matches.p_a, pair.matches.p_b))
    score, inlier = pair.matches.score[0].numpy()[valid], pair.view.inlier[0].numpy()[valid]
    canvas = np.ascontiguousarray(place)
    for kind, color in ((inlier, _GOOD), (~inlier, _BAD)):
        chosen = np.flatnonzero(kind)[draw.spread(p_b[kind], _CELL, score[kind])]
        draw.draw_motion(canvas, p_a[chosen], p_b[chosen], color, _LONGEST * width)
    inverse = np.linalg.inv(S)
    F_ba = inverse.T @ pair.view.F_ba[0].double().numpy() @ inverse
    few = np.flatnonzero(inlier)[draw.spread(p_b[inlier], math.sqrt(width * height / _LINES), score[inlier])][:_LINES]
    draw.draw_epipolar_lines(canvas, F_ba, p_a[few], p_b[few])
    at = draw.put_text(canvas, "fits", (8, height - 10), 10, _GOOD)
    at = draw.put_text(canvas, "does not", (at + 12, height - 10), 10, _BAD)
    if F_ba.any():
        draw.put_text(canvas, "lines: epipolar", (at + 12, height - 10), 10, _FAIR)
    place[:] = canvas


def _draw_status(place: np.ndarray, frame: Frame, step: Step, unit: str) -> None:
    """Number, status and figures of a frame, as many as there is room for."""
    guessed = step.status in (StepStatus.LOST, StepStatus.BRIDGED)
    sure = step.status in (StepStatus.FIRST, StepStatus.OK, StepStatus.PNP)
    parts = [(f"frame {step.index}", draw.WHITE), (str(step.status), _BAD if guessed else _GOOD if sure else _FAIR)]
    if step.matches:
        parts += [
            (f"{100 * step.inlier_ratio:.0f} % of {step.matches} fit", draw.WHITE),
            (f"parallax {step.parallax:.1f} px", draw.WHITE),
        ]
    if step.scale_source:
        parts.append((f"step {step.scale:.3g} {unit} by {step.scale_source}", draw.WHITE))
    parts.append((f"{step.milliseconds:.0f} ms", draw.GREY))
    if step.note:
        parts.append((step.note, draw.GREY))
    x = 10
    for text, color in parts:
        x = draw.put_text(place, text, (x, 22), 11, color) + 22
