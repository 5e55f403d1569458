"""What can be said about an input before it is worked on: readability, motion, light, a plausible camera."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from trianflow.data.frames import Frame, FrameSource
from trianflow.geometry.camera import Camera

FLOW_RANGE = (
    1.0,
    6.0,
)  # per cent of the image width between frames in which two-view geometry is at its best
FLOW_TARGET = 3.0  # per cent, aimed at by the suggested stride
STATIC_FLOW = 0.05  # per cent; below it the picture stands (0.6 px of 1226)
LARGEST_STRIDE = 10
_WORK_SIZE = 320  # pixels of the longer side on which flow, light and sharpness are measured
_DUPLICATE = 0.05  # mean absolute grey difference below which two frames are the same picture
_LONGEST_VIDEO = 5000  # frames of a video looked at: it can only be read from the front


@dataclass(frozen=True)
class InputStatistics:
    """Measurements on a sample of the frames.

    Attributes:
        frames: of the selection, None where a container does not say.
        scanned: how many were decoded.
        readable: how many of them gave a picture of the right size.
        problems: name and reason of the others.
        size: (width, height) in pixels, None if nothing was readable.
        fps: frames a second from the median time step, None with a single frame.
        pairs: consecutive frames compared.
        duplicates: pairs that are the same picture twice.
        brightness: median over the frames of the mean grey level, 0 to 255.
        sharpness: median variance of the Laplacian on pictures of 320 pixels (a few: blurred or blank).
        flow: median over moving pairs of the median optical flow, per cent of the image width; None without
            pairs.
        stride: suggested stride in frames of the input, None where the present one is good.
    """

    frames: int | None
    scanned: int
    readable: int
    problems: tuple[tuple[str, str], ...] = field(default=())
    size: tuple[int, int] | None = None
    fps: float | None = None
    pairs: int = 0
    duplicates: int = 0
    brightness: float = 0.0
    sharpness: float = 0.0
    flow: float | None = None
    stride: int | None = None


def inspect_frames(frames: FrameSource, max_frames: int = 200, flow_pairs: int = 20) -> InputStatistics:
    """Decode a sample and measure it; frames are taken in neighbouring pairs, evenly over the selection.

    Args:
        frames: the source; its notes grow where it turns out to be damaged.
        max_frames: about how many are decoded.
        flow_pairs: on how many pairs the optical flow is measured (DIS, ultra-fast, 320 pixels).
    """
    indices, pair_starts = _sample(frames, max_frames)
    rhythm = max(1, len(pair_starts) // flow_pairs)
    for_flow = set(pair_starts[::rhythm])
    problems: list[tuple[str, str]] = []
    light: list[float] = []
    sharp: list[float] = []
    steps: list[float] = []
    flows: list[float] = []
    scanned = pairs = duplicates = 0
    before: tuple[Frame, np.ndarray] | None = None
    no_flow: Any = None  # OpenCV takes no start value; its stubs do not know
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    for frame in frames.select(indices):
        scanned += 1
        if frame.image is None:
            problems.append((frame.name, frame.problem))
            before = None
            continue
        small = _small_grey(frame.image)
        light.append(float(small.mean()))
        sharp.append(float(cv2.Laplacian(small, cv2.CV_32F).var()))
        if before is not None and frame.index - before[0].index == frames.stride:
            pairs += 1
            steps.append(frame.time - before[0].time)
            if float(cv2.absdiff(before[1], small).mean()) < _DUPLICATE:
                duplicates += 1
            elif before[0].index in for_flow:
                flow = dis.calc(before[1], small, no_flow)
                flows.append(float(np.median(np.linalg.norm(flow, axis=2)) / small.shape[1] * 100))
        before = frame, small
    flow_percent = float(np.median(flows)) if flows else (0.0 if pairs else None)
    step = float(np.median(steps)) if steps else 0.0
    readable = scanned - len(problems)
    return InputStatistics(
        frames=frames.length,
        scanned=scanned,
        readable=readable,
        problems=tuple(problems),
        size=frames.first_image_size() if readable else None,
        fps=1 / step if step > 0 else None,
        pairs=pairs,
        duplicates=duplicates,
        brightness=float(np.median(light)) if light else 0.0,
        sharpness=float(np.median(sharp)) if sharp else 0.0,
        flow=flow_percent,
        stride=suggest_stride(flow_percent, frames.stride, frames.total),
    )


def suggest_stride(flow: float | None, stride: int = 1, frames: int | None = None) -> int | None:
    """The stride that brings the flow near 3 % of the image width, None where none is needed or possible.

    Args:
        flow: median flow between the frames compared, per cent of the image width.
        stride: with which they were taken.
        frames: of the whole input; ten should remain, None where unknown.
    """
    if flow is None or flow < STATIC_FLOW or FLOW_RANGE[0] <= flow <= FLOW_RANGE[1]:
        return None
    wanted = stride * FLOW_TARGET / flow
    largest = LARGEST_STRIDE if frames is None else min(LARGEST_STRIDE, frames // 10)
    best = max(1, min(math.floor(wanted), max(largest, stride)))
    return best if best != stride else None


def implausible(camera: Camera) -> list[str]:
    """What is unusual about a calibration, one line each; none of it need be wrong.

    Args:
        camera: with its image size.
    """
    found = []
    ratio = camera.fx / camera.fy
    if abs(ratio - 1) > 0.02:
        found.append(f"fx / fy is {ratio:.3f}: square pixels have 1 (image stretched, or values swapped?)")
    for axis, centre, size in (("cx", camera.cx, camera.width), ("cy", camera.cy, camera.height)):
        if abs((centre + 0.5) / size - 0.5) > 1 / 6:
            found.append(
                f"{axis} = {centre:g} is outside the middle third of {size} pixels (cropped, or swapped?)"
            )
    fov = math.degrees(2 * math.atan(camera.width / (2 * camera.fx)))
    if not 25 <= fov <= 120:
        found.append(
            f"a horizontal field of view of {fov:.0f} degrees is unusual (focal length of another size?)"
        )
    return found


def _sample(frames: FrameSource, max_frames: int) -> tuple[list[int], list[int]]:
    """Frame numbers to decode, and those of them whose successor is decoded too."""
    number = frames.length if frames.length is not None else max_frames
    if frames.kind == "video":
        number = min(number, max(_LONGEST_VIDEO // frames.stride, 2))
    if number <= max_frames:
        positions = np.arange(number)
        starts = positions[:-1]
    else:
        starts = np.unique(np.linspace(0, number - 2, max_frames // 2).round().astype(int))
        positions = np.unique(np.concatenate([starts, starts + 1]))

    def numbers(at: np.ndarray) -> Iterator[int]:
        return (int(frames.start + p * frames.stride) for p in at)

    return list(numbers(positions)), list(numbers(starts))


def _small_grey(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    scale = _WORK_SIZE / max(grey.shape)
    if scale >= 1:
        return grey
    size = (max(16, round(grey.shape[1] * scale)), max(16, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
