"""Depth files of many images, in a folder or a stack; truth and prediction paired."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trianflow.data.calibration import read_depth_scale
from trianflow.data.decoding import UnreadableImage
from trianflow.data.depth import DEPTH_SUFFIXES, decode_depth, read_depth
from trianflow.data.images import natural_key
from trianflow.data.prepared import FACTS
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_protocols import DepthProtocol, ImagePair, select_pixels
from trianflow.evaluation.depth_stacks import read_stack

_PICTURES = frozenset({"images", "color"})  # folders that `trianflow prepare` and `trianflow depth` fill with pictures


@dataclass(frozen=True)
class DepthImages:
    """Depth images that are read one at a time.

    Attributes:
        path: the folder or file.
        names: one an image, unique: file names without suffix, or `#0`, `#1` ... in a stack.
        named: whether the names say which image it is.
        read: index to `(H, W)` float32 in the stored unit over the scale, 0 where unknown; raises `UnreadableImage`.
        reduced: it is truth that `trianflow prepare` made as small as the pictures, for training.
    """

    path: Path
    names: Sequence[str]
    named: bool
    read: Callable[[int], np.ndarray]
    reduced: bool = False

    def __len__(self) -> int:
        """How many images."""
        return len(self.names)


def open_depths(path: str | Path, scale: float | None, *, truth: bool = False) -> DepthImages:
    """Open a folder of depth files, folders of several sequences, or a stack.

    Args:
        path: a folder of 16-bit PNG (TIFF, PGM) or `.npy` files, or one that has them in its folder `depth` (the truth
            first of all in `truth`, as `trianflow prepare --truth` writes it); a folder of such folders, whose images
            are named `SEQUENCE/NAME`; or a stack, see `read_stack`.
        scale: stored units per metre; needed for integers, 1 for floats by default.
        truth: it is the truth, not a prediction.

    Raises:
        UsageError: nothing there, a scale that is not positive, or integers without a scale.
        TrianflowError: no depth in it, or two files for one image.
    """
    path = Path(path).expanduser()
    option = "--gt-scale" if truth else "--scale"
    if scale is not None and not 0 < scale < float("inf"):
        raise UsageError(f"{option} must be positive, not {scale:g}")
    if path.is_dir():
        images = _open_folder(path, scale, truth)
    elif path.is_file():
        stack = read_stack(path)
        images = DepthImages(
            path, stack.names, stack.named, lambda index: decode_depth(np.asarray(stack.images[index]), scale)
        )
    else:
        raise UsageError(f"{path}: no such folder or file of depth images")
    for index in range(min(len(images), 20)):
        try:
            images.read(index)
            break
        except UsageError:
            raise UsageError(
                f"{path}: the depth is stored in integers: say how many make a metre with {option}"
                " (KITTI 256, TUM 5000, millimetres 1000)"
            ) from None
        except UnreadableImage:
            continue
    return images


def stored_scale(path: str | Path, *, truth: bool = False) -> float | None:
    """The scale of integer depth files that stands in their folder or the one above.

    Args:
        path: see `open_depths`; of several sequences the first speaks for all.
        truth: it is the truth, for which `depth_scale` of a calib.yaml holds.

    Returns:
        `scale` of the depth.json of `trianflow depth`, else that of calib.yaml; None where there is neither, or the
        files are `.npy`.

    Raises:
        TrianflowError: such a file that cannot be read.
    """
    path = Path(path).expanduser()
    files = [file for _, file in _depth_files(path, truth)] if path.is_dir() else []
    integers = [file for file in files if file.suffix.lower() != ".npy"]
    if not integers:
        return None
    for folder in (integers[0].absolute().parent, integers[0].absolute().parent.parent):
        facts, calibration = folder / "depth.json", folder / "calib.yaml"
        if facts.is_file():
            try:
                return float(json.loads(facts.read_text(encoding="utf-8"))["scale"])
            except (OSError, ValueError, KeyError, TypeError):
                raise TrianflowError(f"{facts}: names no scale (a number); say it on the command line") from None
        if truth and calibration.is_file() and (scale := read_depth_scale(calibration)) is not None:
            return scale
    return None


@dataclass
class DepthPairs:
    """Truth and the prediction of one method, paired; iterating reads them one at a time, as often as wanted.

    Files are paired by name (without suffix) where any name occurs in both, else in natural order where there are as
    many. What cannot be read is left out and told in `problems`.

    Args:
        truth, prediction: the images.
        protocol: crop and caps.
        disparity: the predictions are inverse depth.

    Raises:
        TrianflowError: nothing to pair them by.
    """

    truth: DepthImages
    prediction: DepthImages
    protocol: DepthProtocol
    disparity: bool = False
    problems: dict[str, str] = field(default_factory=dict, init=False)
    by_name: bool = field(init=False)
    partners: list[int | None] = field(init=False)

    def __post_init__(self) -> None:
        """Pair the names."""
        index = {name: i for i, name in enumerate(self.prediction.names)}
        named = self.truth.named and self.prediction.named
        self.by_name = named and any(name in index for name in self.truth.names)
        if self.by_name:
            self.partners = [index.get(name) for name in self.truth.names]
        elif len(self.truth) == len(self.prediction):
            self.partners = list(range(len(self.truth)))
        else:
            raise TrianflowError(
                f"{self.prediction.path}: {len(self.prediction)} predictions for {len(self.truth)} images of truth in"
                f" {self.truth.path}, and no name in common ({self.prediction.names[0]}, {self.truth.names[0]}):"
                " name them alike, or give as many"
            )

    @property
    def left_over(self) -> int:
        """Predictions without truth."""
        return len(self.prediction) - sum(partner is not None for partner in self.partners)

    def __len__(self) -> int:
        """How many images of truth."""
        return len(self.truth)

    def __iter__(self) -> Iterator[ImagePair]:
        """The pixels of every image that can be read.

        Raises:
            UsageError: the crop is not for truth of this size.
        """
        for i, (name, partner) in enumerate(zip(self.truth.names, self.partners)):
            if partner is None:
                self.problems[name] = "no prediction of this name"
                continue
            try:
                truth = self.truth.read(i)
            except UnreadableImage as error:
                self.problems[name] = f"the truth: {error}"
                continue
            try:
                prediction = self.prediction.read(partner)
            except UnreadableImage as error:
                self.problems[name] = f"the prediction: {error}"
                continue
            try:
                pair = select_pixels(name, truth, prediction, self.protocol, disparity=self.disparity)
            except UsageError as error:
                raise UsageError(f"{self.truth.path}: {name}: {error}") from None
            yield pair


def _depth_files(folder: Path, truth: bool, levels: int = 3) -> list[tuple[str, Path]]:
    """Names and depth files of a folder, or of the folders in it, in natural order."""
    for place in (*((folder / "truth",) if truth else ()), folder, folder / "depth"):
        if place.is_dir():
            files = [f for f in place.iterdir() if f.suffix.lower() in DEPTH_SUFFIXES and not f.name.startswith(".")]
            if files:
                return [(file.stem, file) for file in sorted(files, key=natural_key)]
    inner = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name not in _PICTURES]
    return [
        (f"{sequence.name}/{name}", file)
        for sequence in (sorted(inner, key=natural_key) if levels else ())
        for name, file in _depth_files(sequence, truth, levels - 1)
    ]


def _open_folder(folder: Path, scale: float | None, truth: bool) -> DepthImages:
    files: dict[str, Path] = {}
    for name, file in _depth_files(folder, truth):
        if name in files:
            raise TrianflowError(f"{file}: and {files[name].name} are of one image; leave one of them")
        files[name] = file
    if not files:
        raise TrianflowError(f"{folder}: no depth files; expected {', '.join(sorted(DEPTH_SUFFIXES))}")
    paths = list(files.values())
    reduced = truth and any(path.parent.name == "depth" and (path.parent.parent / FACTS).is_file() for path in paths)
    return DepthImages(folder, tuple(files), True, lambda index: read_depth(paths[index], scale), reduced)
