"""Pairs in which nothing moves: how far the image moves from the first frame to the second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from trianflow.data.pairs.frames import FrameStore, UnreadableFrame

_WIDTH = 256  # pixels of the small copies, on which the flow is computed


@dataclass(frozen=True)
class PairMotion:
    """How far the pairs of a source move.

    Attributes:
        motion: `(P,)` float64 median length of the flow as a share of the width; NaN where a frame is unreadable.
        notes: what the user should know, one line each.
    """

    motion: np.ndarray
    notes: list[str]


def pair_motion(frames: FrameStore, stride: int) -> PairMotion:
    """The motion of each pair (i, i + stride), computed once and kept beside the caches.

    The flow is dense inverse search (`ultrafast`) on copies 256 pixels wide. A folder that cannot be written
    costs the same time again at the next start, and is noted.
    """
    cache = frames.side_cache(["motion", stride])
    about = cache.read()
    if about is not None:
        return PairMotion(np.array(about["motion"], np.float64), [])
    motion = _measure(frames, stride)
    notes = []
    try:
        cache.write_facts({"motion": motion})
    except OSError as error:
        notes.append(f"the motion of the pairs is not kept: {cache.array.parent}: {error.strerror or error}")
    return PairMotion(np.array(motion, np.float64), notes)


class MotionMeter:
    """How far one picture moves to the next: dense inverse search (`ultrafast`) on small copies."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    @staticmethod
    def small(image: np.ndarray) -> np.ndarray:
        """The copy of a picture `(H, W, 3)` RGB uint8 that `motion` wants: grey, 256 pixels wide."""
        height, width = image.shape[:2]
        # OpenCV crashes on images of fewer than 32 rows
        size = (_WIDTH, max(48, round(height * _WIDTH / width)))
        return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)

    def motion(self, first: np.ndarray, second: np.ndarray) -> float:
        """The median length of the flow between two small copies, as a share of the width."""
        # an initial flow of another size is not looked at
        field = self._flow.calc(first, second, np.empty((1, 1, 2), np.float32))
        return float(np.median(np.linalg.norm(field, axis=-1))) / _WIDTH


def _measure(frames: FrameStore, stride: int) -> list[float | None]:
    meter = MotionMeter()
    recent: deque[np.ndarray | None] = deque(maxlen=stride)
    motion: list[float | None] = []
    for number in tqdm(range(len(frames)), "motion of the pairs", unit=" frames", disable=None):
        small = _small(frames, number)
        if len(recent) == stride:
            first = recent[0]
            motion.append(None if first is None or small is None else meter.motion(first, small))
        recent.append(small)
    return motion


def _small(frames: FrameStore, number: int) -> np.ndarray | None:
    try:
        return MotionMeter.small(frames.image(number))
    except UnreadableFrame:
        return None
