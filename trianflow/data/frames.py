"""Frames in: a video file, a folder or a glob of images becomes a stream of `Frame`s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One input frame, whether or not it could be read.

    Attributes:
        index: position in the input (video frame number, or rank in the sorted folder), from 0; strides skip numbers.
        time: seconds; the container's stamp for a video, a times file's for a folder, else index / fps.
        image: `(H, W, 3)` RGB or `(H, W)` grey, uint8; None where the frame could not be read.
        name: file name or `video.mp4#12`, for messages.
        depth: `(H, W)` float32 along z in metres, 0 where unknown; None without a depth source.
        problem: why `image` is None, in one line; empty for a good frame.
    """

    index: int
    time: float
    image: np.ndarray | None
    name: str = ""
    depth: np.ndarray | None = None
    problem: str = ""
