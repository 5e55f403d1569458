"""The two images that a true flow is of, as KITTI, Sintel and Middlebury name them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trianflow.data.images import IMAGE_SUFFIXES, ImageFolder
from trianflow.errors import TrianflowError


def read_frame_pair(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images between which a flow goes: that of its name, and that with the next number.

    Args:
        folder: of the images.
        name: of the flow, relative to its folder: `000000_10` (the images are 000000_10 and 000000_11),
            `alley_1/frame_0001`, or `RubberWhale/flow10`, whose images are called frame10 and frame11.

    Returns:
        Two `(H, W, 3)` RGB or `(H, W)` grey, uint8, of one size.

    Raises:
        TrianflowError: an image is missing or damaged, they differ in size, or the name ends in no number.
    """
    number = re.search(r"\d+$", name)
    if number is None:
        raise TrianflowError(f"{name}: the name of the truth ends in no number, so its images are not known")
    stem = re.sub(r"(^|/)flow$", r"\1frame", name[: number.start()])
    files = [_find(folder / f"{stem}{int(number[0]) + i:0{len(number[0])}d}") for i in (0, 1)]
    pair = ImageFolder(folder, files, name=name, start=0, end=None, stride=1, fps=1.0, stray=[])
    images = []
    for file, frame in zip(files, pair.select([0, 1])):
        if frame.image is None:
            raise TrianflowError(f"{file}: {frame.problem}")
        images.append(frame.image)
    return images[0], images[1]


def _find(path: Path) -> Path:
    """The image of this name without suffix."""
    files = (path.with_name(path.name + suffix) for suffix in sorted(IMAGE_SUFFIXES))
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise TrianflowError(f"{path}.png: missing")
    return file
