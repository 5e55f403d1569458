"""What the readers of datasets share: sequence folders below a root, archives that were not unpacked, missing files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from trianflow.data.calibration import fit_to_image
from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.decoding import UnreadableImage
from trianflow.data.frames import Frame
from trianflow.data.images import ImageFolder, natural_key
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tar\.gz|tbz2|tar\.bz2|7z|rar|bag)$", re.IGNORECASE)


def require_folder(root: Path, dataset: str) -> None:
    """Refuse a root that is no folder.

    Raises:
        TrianflowError: it does not exist, or is a file (an archive, most likely).
    """
    if root.is_file():
        raise TrianflowError(f"{root}: a file; unpack it and name the folder with {dataset}")
    if not root.is_dir():
        raise TrianflowError(f"{root}: no such folder; name the folder with {dataset}")


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order, without hidden ones."""
    found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))
    return sorted(found, key=natural_key)


def find_folders(root: Path, wanted: Callable[[Path], bool], levels: int = 2) -> list[Path]:
    """The folders that are `wanted`: the root itself, else those up to `levels` below it, in natural order.

    Nothing is looked for inside a folder that is wanted, so an archive unpacked into a folder of its own name is found.
    """
    if wanted(root):
        return [root]
    return [f for sub in sub_folders(root) for f in find_folders(sub, wanted, levels - 1)] if levels else []


def relative_name(folder: Path, root: Path) -> str:
    """The name of a sequence: its path below the root with slashes, or the root's own name."""
    return folder.name if folder == root and folder.name else folder.relative_to(root).as_posix()


def packed(folder: Path, levels: int = 1, prefix: Callable[[str], str] | None = None) -> list[str]:
    """One problem for each archive below a folder that seems not to be unpacked: nothing of its name lies beside it.

    Args:
        folder: where the archives may lie.
        levels: of folders looked at, this one included.
        prefix: with what the folders in an archive begin, from its name without suffix; None where an archive holds
            one folder of exactly its name.
    """
    found = []
    below = sub_folders(folder)
    for file in sorted((p for p in folder.iterdir() if p.is_file() and _ARCHIVE.search(p.name)), key=natural_key):
        stem = _ARCHIVE.sub("", file.name)
        if not any(p.name.startswith(prefix(stem)) if prefix else p.name == stem for p in below):
            found.append(not_unpacked(file))
    if levels > 1:
        found += [line for sub in below for line in packed(sub, levels - 1, prefix)]
    return found


def not_unpacked(archive: Path, place: Path | None = None) -> str:
    """A line on an archive, and where to unpack it: in its own folder unless another is given."""
    return f"{archive}: an archive that is not unpacked; unpack it in {place or archive.parent}, or move it away"


def left_out(folder: Path, names: Iterable[str], why: str) -> list[str]:
    """A line on files of a folder that are not used, or nothing where there are none; hidden files do not count."""
    shown = sorted((name for name in names if not name.startswith(".")), key=natural_key)
    return [f"{folder}: left out {some(shown)}: {why}; remove what does not belong there"] if shown else []


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are: `a, b, c and 4 more`."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Where a file that gives no picture is an error.

    Raises:
        TrianflowError: that names the file, for an `UnreadableImage` inside.
    """
    try:
        yield
    except UnreadableImage as error:
        raise TrianflowError(f"{file}: {error}; unpack or download the file again") from None


def content(
    root: Path,
    sequences: Iterable[DatasetSequence],
    problems: Sequence[str],
    expected: str,
    notes: Sequence[str] = (),
) -> DatasetContent:
    """What was found, in natural order of the names.

    Args:
        root: the folder that was opened.
        sequences, problems, notes: as of `DatasetContent`.
        expected: the layout, for the message where nothing was found.

    Raises:
        TrianflowError: not one sequence is usable; the message has the first problem.
    """
    ordered = sorted(sequences, key=lambda sequence: natural_key(sequence.name))
    if not ordered:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        why = f"{problems[0]}{more}" if problems else f"expected {expected}; name the folder that has them"
        raise TrianflowError(f"{root}: no usable sequence: {why}")
    return DatasetContent(tuple(ordered), tuple(problems), tuple(notes), root)


def missing_files(files: Sequence[Path], listed_in: str) -> list[str]:
    """A problem that names the first of the files which are not there or are empty, or nothing.

    Args:
        files: that should be there.
        listed_in: what says so, for the message.
    """
    absent = [file for file in files if not file.is_file() or not file.stat().st_size]
    if not absent:
        return []
    count = f"{len(absent)} of {len(files)} files of {listed_in} are" if len(absent) > 1 else f"{listed_in}:"
    if len(absent) > 1:
        return [f"{absent[0]}: {count} missing or empty, this is the first; unpack or download the sequence again"]
    return [f"{absent[0]}: missing or empty, but part of {listed_in}; unpack or download the sequence again"]


class WindowedImages(ImageFolder):
    """Image files of which a window is taken.

    Attributes:
        whole: width and height of the files, pixels.
        window: left, top, width, height in pixels, or None for all of them.
    """

    whole: tuple[int, int]
    window: tuple[int, int, int, int] | None

    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for frame in super()._read(indices):
            if frame.image is None:
                yield frame
                continue
            height, width = frame.image.shape[:2]
            if (width, height) == self.whole:
                yield replace(frame, image=cut(frame.image, self.window))
            else:
                problem = "size {}x{} differs from {}x{}".format(width, height, *self.whole)
                yield replace(frame, image=None, problem=problem)


def cut(image: np.ndarray, window: tuple[int, int, int, int] | None) -> np.ndarray:
    """The window (left, top, width, height) of a `(H, W)` or `(H, W, 3)` array; all of it where the window is None."""
    if window is None:
        return image
    left, top, width, height = window
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def image_files(
    folder: Path,
    files: Sequence[Path],
    times: Sequence[float],
    times_source: str,
    name: str,
    camera: Camera,
    window: tuple[int, int, int, int] | None = None,
) -> WindowedImages:
    """Image files with known times as frames; one that is not there, or not of the camera's size, becomes a frame
    without a picture, which says why.

    Args:
        folder: that the files lie in.
        times: seconds, one a file.
        times_source: where they come from, for messages.
        camera: of the whole images.
        window: that is taken of them, as in `WindowedImages`.
    """
    source = WindowedImages(folder, list(files), name=name, start=0, end=None, stride=1, fps=1.0, stray=[])
    source.times, source.times_source = [float(t) for t in times], times_source
    source.whole, source.window = (camera.width, camera.height), window
    return source


def image_size(files: Sequence[Path]) -> tuple[int, int]:
    """The width and height that most of five images over the whole sequence have in their headers.

    Raises:
        TrianflowError: no image has a header that can be read.
    """
    picked = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, 5).round().astype(int))] if files else []
    sizes = [size for size in map(_size_in_header, picked) if size]
    sizes = sizes or [size for size in map(_size_in_header, files) if size][:1]
    if not sizes:
        first = f"the first is {files[0]}" if files else "there is none"
        raise TrianflowError(f"not one of {len(files)} images can be read, {first}; unpack or download them again")
    return max(sizes, key=sizes.count)


def _size_in_header(file: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size
    except Exception:  # PIL raises a dozen kinds on a damaged header; the other files decide
        return None


def fitted(camera: Camera, files: Sequence[Path], where: Path) -> tuple[Camera, list[str]]:
    """The camera at the size of the images, and a note where it had to be scaled to it or may be of another.

    Args:
        camera: of the dataset; its size may be unknown.
        files: the images.
        where: the camera comes from, for messages.

    Raises:
        TrianflowError: no image can be read, or none of this aspect ratio belongs to the camera.
    """
    size = image_size(files)
    try:
        camera, note = fit_to_image(camera, *size)
    except TrianflowError as error:
        raise TrianflowError(f"{where}: {error}") from None
    return camera, [f"{where}: {note}"] if note else []
