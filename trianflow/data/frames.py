"""Frames in: a video file, a folder or a glob of images becomes a stream of `Frame`s."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trianflow.data.prefetch import prefetched
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.data.depth import DepthFolder


@dataclass(frozen=True)
class Frame:
    """One input frame, whether or not it could be read.

    Attributes:
        index: position in the input (video frame number, or rank in the sorted folder), from 0; strides skip
            numbers.
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


class FrameSource(ABC):
    """A stream of frames in constant memory; made by `open_frames`, iterated as often as wanted.

    Iterating decodes up to two frames ahead in one background thread, so that decoding overlaps with the work
    on the frame before; the thread ends with the iteration, also an early one.

    Attributes:
        kind: 'video', 'folder' or 'webcam'.
        name: of the input, for messages and default output names.
        path: the video file, or the folder that holds the images (the sub-folder that was picked).
        total: frames of the whole input, before start, end and stride; None where a container does not say.
        start, end, stride: the selection, in frame numbers of the input; `end` is exclusive, None for all.
        stray: names of files in the folder that are not images of the sequence and were left out.
        depth: the depth source, or None.
    """

    kind: str = ""

    def __init__(self, path: Path, name: str, *, start: int, end: int | None, stride: int) -> None:
        self.path, self.name = path, name
        self.start, self.end, self.stride = start, end, stride
        self.total: int | None = None
        self.stray: list[str] = []
        self.depth: DepthFolder | None = None
        self._size: tuple[int, int] | None = None
        self._notes: list[str] = []
        self._depth_problems: dict[int, str] = {}

    @property
    def notes(self) -> list[str]:
        """What the user should know, one line each; grows while iterating (truncation, unusable depth)."""
        notes = list(self._notes)
        problems = sorted(self._depth_problems.items())
        if problems:
            notes.append(f"no depth for {len(problems)} frames, the first: {problems[0][1]}")
        return notes

    @property
    def length(self) -> int | None:
        """Number of frames the iteration promises (a damaged video can give fewer), None where unknown."""
        if self.total is None:
            return None
        return len(
            range(self.start, self.total if self.end is None else min(self.end, self.total), self.stride)
        )

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"{self.name} does not say how many frames it has")
        return self.length

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Frame]:
        return prefetched(self.select(self._indices()))

    def attach_depth(self, folder: str | Path, scale: float | None = None) -> None:
        """Give the frames measured depth from a folder; arguments and errors as in `depth.DepthFolder`."""
        from trianflow.data.depth import DepthFolder

        self.depth = DepthFolder(Path(folder).expanduser(), self, scale)
        self._notes += self.depth.notes

    def first_image_size(self) -> tuple[int, int]:
        """Width and height in pixels that frames must have: of the first readable frame of the selection.

        Raises:
            TrianflowError: not one frame can be read.
        """
        if self._size is None:
            problem = ""
            for frame in self.select(self._indices()):
                if frame.image is not None:
                    break
                problem = problem or f" ({frame.name}: {frame.problem})"
            else:
                raise TrianflowError(f"{self.name}: not one frame can be read{problem}")
        assert self._size is not None
        return self._size

    def select(self, indices: Iterable[int]) -> Iterator[Frame]:
        """The frames of the given numbers, which must rise, one by one and without the background thread.

        Ends early where the input does. The first good frame sets the size that all others must have.
        """
        for frame in self._read(indices):
            if frame.image is not None:
                size = (frame.image.shape[1], frame.image.shape[0])
                if self._size is None:
                    self._size = size
                if size != self._size:
                    problem = "size {}x{} differs from {}x{}".format(*size, *self._size)
                    frame = replace(frame, image=None, problem=problem)
                elif self.depth is not None:
                    depth, problem = self.depth.read(frame.index, size)
                    if problem:
                        self._depth_problems[frame.index] = problem
                    frame = replace(frame, depth=depth)
            yield frame

    def _indices(self) -> Iterable[int]:
        # a container's count may be an estimate, so only an explicit end stops before the input does
        return (
            count(self.start, self.stride) if self.end is None else range(self.start, self.end, self.stride)
        )

    def _check_start(self) -> None:
        if self.total is not None and self.start >= self.total:
            raise UsageError(
                f"--start {self.start} is beyond the end: {self.name} has {self.total} frames, 0 to {self.total - 1}"
            )

    @abstractmethod
    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Decode frames without checking sizes; ends where the input ends; releases what it opened."""


def open_frames(
    source: str | Path,
    *,
    depth: str | Path | None = None,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    fps: float | None = None,
    depth_scale: float | None = None,
    size: tuple[int, int] | None = None,
) -> FrameSource:
    """Open a video, a folder of images, a glob pattern, a single image or a webcam as a stream of frames.

    A folder is sorted in natural order (2 before 10). A sequence folder of KITTI (`image_2` is preferred to
    `image_0`), KITTI raw, EuRoC (`mav0/cam0/data`), TUM (`rgb`) or with `images` inside may be given itself.
    Times come from the container, from a `times.txt`, `timestamps.txt`, `rgb.txt` or `data.csv` in or above
    the image folder that fits the images, else from `fps`.

    Images: 8-bit as they are, 16-bit brought to 8 by one shift for the whole source (see
        `images.ImageFolder`), grey
    stays `(H, W)`, alpha is dropped, colour is RGB. The orientation tag of EXIF and of video containers is
    honoured, as image viewers and OpenCV do. A file that cannot be decoded completely gives a frame with
    `image=None`.

    Args:
        source: path or quoted glob pattern; or the number of a webcam, where no file is called so.
        depth: folder of depth images or `.npy` files (see `depth.DepthFolder`), matched to the frames by
            file name, else by order where there are as many, else by time stamps in the names.
        start, end, stride: the selection in frame numbers, `end` exclusive.
        fps: frames a second; for a folder without times (default 10); for a video it overrides the container.
        depth_scale: stored depth units per metre, for integer depth (KITTI 256, TUM 5000, millimetres 1000).
        size: (width, height) that frames must have; default that of the first readable one.

    Returns:
        The source; nothing but its first frames has been decoded yet.

    Raises:
        UsageError: no such path, a selection that is empty, a missing depth scale.
        TrianflowError: no images in the folder, a video that does not open, depth that matches no frame.
    """
    from trianflow.data.images import IMAGE_SUFFIXES, ImageFolder, find_images
    from trianflow.data.video import VideoFile
    from trianflow.data.webcam import Webcam

    if stride < 1:
        raise UsageError(f"--stride must be at least 1, not {stride}")
    if start < 0 or (end is not None and end <= start):
        given = f"--start {start}" if end is None else f"--start {start} --end {end}"
        raise UsageError(f"{given} selects no frame; the first is 0 and the end comes after the start")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"--fps must be positive, not {fps:g}")
    if size is not None and min(size) < 1:
        raise UsageError(f"not an image size: {size}")
    text = str(source)
    path = Path(text).expanduser()
    if not path.exists() and glob.has_magic(text):
        matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not matches:
            raise UsageError(f"{text}: no file matches this pattern")
        if len(matches) > 1 or matches[0].suffix.lower() in IMAGE_SUFFIXES:
            matches = [p.absolute() for p in matches]
            images, stray = find_images(matches)
            if not images:
                raise TrianflowError(
                    f"{text}: none of the {len(matches)} matching files is an image ({stray[0]})"
                )
            opened: FrameSource = ImageFolder(
                images[0].parent, images, name=text, start=start, end=end, stride=stride, fps=fps, stray=stray
            )
        else:
            path = matches[0]
            opened = VideoFile(path, start=start, end=end, stride=stride, fps=fps)
    elif not path.exists() and text.isdecimal():
        opened = Webcam(int(text), start=start, end=end, stride=stride, fps=fps)
        if depth is not None:
            raise UsageError(f"{text}: a webcam has no folder of depth; leave --depth out")
    elif not path.exists():
        raise UsageError(f"{text}: no such file or folder")
    elif path.is_dir():
        opened = ImageFolder.from_folder(path, start=start, end=end, stride=stride, fps=fps)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        opened = ImageFolder(
            path.absolute().parent,
            [path],
            name=path.name,
            start=start,
            end=end,
            stride=stride,
            fps=fps,
            stray=[],
        )
    else:
        opened = VideoFile(path, start=start, end=end, stride=stride, fps=fps)
    opened._size = size
    if depth is not None:
        opened.attach_depth(depth, depth_scale)
    return opened
