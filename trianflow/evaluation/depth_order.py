"""Names for the images of a stack, from the list whose order it has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_files import DepthImages

EIGEN_TEST = "eigen_test"

_CAMERAS = {"l": "image_02", "r": "image_03"}  # as Monodepth's lists call them


def read_order(name: str) -> list[str]:
    """The lines of a list of images.

    Args:
        name: a text file with an image a line, or `eigen_test` for the 697 of Eigen's split.

    Raises:
        UsageError: no such file.
    """
    if name == EIGEN_TEST:
        from trianflow.data.datasets.splits import eigen_test_numbers

        drives = eigen_test_numbers().items()
        return [f"{drive[:10]}/{drive}/image_02 {number}" for drive, numbers in drives for number in numbers]
    try:
        lines = Path(name).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: cannot read this list of images ({error})") from None
    return [line.strip() for line in lines if line.strip()]


def name_stack(stack: DepthImages, order: Sequence[str], truth: DepthImages) -> DepthImages:
    """A stack whose images have the names of the truth.

    A line names the image of the truth whose folders all occur in it, and whose number (or name) it ends in, such as
    `DATE/DRIVE/image_02/data/0000000069.png` or `DATE/DRIVE 0000000069 l`; lines without truth keep their own text.

    Args:
        stack: images without names.
        order: a line an image.
        truth: images with names.

    Raises:
        TrianflowError: another number of lines than images, or a line that could be several images.
    """
    if len(order) != len(stack):
        raise TrianflowError(f"{stack.path}: {len(stack)} images, but its list names {len(order)}")
    by_key: dict[str | int, list[tuple[set[str], str]]] = defaultdict(list)
    for name in truth.names:
        *folders, stem = name.split("/")
        by_key[_key(stem)].append((set(folders), name))
    names = []
    for line in order:
        words = [re.sub(r"\.(png|jpg|npy)$", "", word) for word in re.split(r"[/\s]+", line)]
        words = [_CAMERAS.get(word, word) for word in words]
        last = words[-2] if words[-1] in _CAMERAS.values() and len(words) > 1 else words[-1]
        found = [name for folders, name in by_key[_key(last)] if folders <= set(words)]
        if len(found) > 1:
            raise TrianflowError(f"{stack.path}: the line '{line}' of its list could be {found[0]} or {found[1]}")
        names.append(found[0] if found else line)
    return replace(stack, names=names, named=True)


def _key(stem: str) -> str | int:
    return int(stem) if stem.isdecimal() else stem
