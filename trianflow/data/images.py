"""Folders of images: natural order, the layouts of datasets, time stamps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from trianflow.data.decoding import UnreadableImage, decode_image, read_bytes
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
DEFAULT_FPS = 10.0  # of KITTI; only the time stamps of folders without times depend on it

# where datasets keep their images below a sequence folder; colour before grey, left before right
_LAYOUTS = (
    *("image_2", "image_02/data", "image_02", "image_0", "image_00/data", "image_00"),
    *("image_3", "image_03/data", "image_03", "image_1", "image_01/data", "image_01"),
    *("images", "rgb", "color", "mav0/cam0/data", "cam0/data", "data", "frames", "left"),
)
_TIMES_FILES = ("times.txt", "timestamps.txt", "rgb.txt", "data.csv")
_SHIFTS = ((256, 0), (1024, 2), (4096, 4), (16384, 6), (65536, 8))  # largest value below -> bits to drop


def natural_key(path: str | Path) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key that orders numbers inside names by value: img2 before img10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in parts if p], str(path)


def find_images(files: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Sort files into images, in natural order, and the names of all others.

    Hidden files (also `._x.png` of macOS) are no images. Where colour and depth lie together as `x.color.png`
    and `x.depth.png` (7-Scenes, ScanNet), only the colour images are taken.
    """
    files = sorted(files, key=natural_key)
    images = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    colour = [f for f in images if f.stem.lower().endswith(".color")]
    images = colour or images
    taken = set(images)
    return images, [f.name for f in files if f not in taken]


class ImageFolder(FrameSource):
    """The images of a folder or a glob pattern, in natural order.

    16-bit images are divided by one power of two for the whole source, so that the brightness cannot flicker:
    the largest value in up to five images, evenly spread over all of the folder, decides between 8, 10, 12,
    14 and 16 bits; a brighter pixel elsewhere is clipped to 255. `start`, `end` and `stride` do not change
    it.
    """

    kind = "folder"

    def __init__(
        self,
        folder: Path,
        files: list[Path],
        *,
        name: str,
        start: int,
        end: int | None,
        stride: int,
        fps: float | None,
        stray: list[str],
    ) -> None:
        super().__init__(folder, name, start=start, end=end, stride=stride)
        self.files, self.stray = files, stray
        self.total = len(files)
        self._check_start()
        self._shift: int | None = None
        times, source, note = (None, "", None) if fps is not None else _find_times(folder, files)
        self._notes += [note] if note else []
        self.times_source = source or f"{fps or DEFAULT_FPS:g} frames a second"
        self.times = times if times is not None else [i / (fps or DEFAULT_FPS) for i in range(len(files))]

    @classmethod
    def from_folder(
        cls, folder: Path, *, start: int, end: int | None, stride: int, fps: float | None
    ) -> ImageFolder:
        """The images of `folder`, or of the sub-folder where datasets keep them.

        Raises:
            TrianflowError: an empty folder, no images in it, or several sub-folders with images and no usual
                name.
        """
        picked, images, stray = _pick_folder(folder)
        name = folder.absolute().resolve().name
        source = cls(picked, images, name=name, start=start, end=end, stride=stride, fps=fps, stray=stray)
        if picked != folder:
            source._notes.insert(0, f"{folder}: took the images in its folder {picked.relative_to(folder)}")
        return source

    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            if index >= len(self.files):
                return
            file, time = self.files[index], self.times[index]
            try:
                image = self._to_8_bit(decode_image(read_bytes(file)))
            except UnreadableImage as error:
                yield Frame(index, time, None, file.name, problem=str(error))
            else:
                yield Frame(index, time, image, file.name)

    def _to_8_bit(self, image: np.ndarray) -> np.ndarray:
        if image.dtype == np.uint8:
            return image
        if image.dtype != np.uint16:
            raise UnreadableImage(f"pixels of type {image.dtype} are not supported, 8 and 16 bits are")
        if self._shift is None:
            largest = max((s.max() for s in self._samples() if s.dtype == np.uint16), default=image.max())
            self._shift = next(bits for below, bits in _SHIFTS if largest < below)
        return np.minimum(image >> self._shift, 255).astype(np.uint8)

    def _samples(self) -> Iterator[np.ndarray]:
        for index in np.unique(np.linspace(0, len(self.files) - 1, 5).round().astype(int)):
            try:
                yield decode_image(read_bytes(self.files[index]))
            except UnreadableImage:
                continue


# --- layouts ------------------------------------------------------------------------------------------------


def _pick_folder(folder: Path) -> tuple[Path, list[Path], list[str]]:
    images, stray = _images_in(folder)
    for layout in _LAYOUTS:
        if (folder / layout).is_dir():
            below, stray_below = _images_in(folder / layout)
            if len(below) > len(images):  # a sequence folder with a plot in it is still a sequence folder
                return folder / layout, below, stray_below
    if images:
        return folder, images, stray
    try:
        below_folders = sorted((p for p in folder.iterdir() if p.is_dir()), key=natural_key)
    except OSError:
        below_folders = []
    found = [(p, *_images_in(p)) for p in below_folders if not p.name.startswith(".")]
    found = [entry for entry in found if entry[1]]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.name for p, _, _ in found[:6])
        raise TrianflowError(
            f"{folder}: no images here, but in {names}{', ...' if len(found) > 6 else ''}; name one"
        )
    what = f"{len(stray)} other files ({stray[0]}, ...)" if stray else "nothing"
    raise TrianflowError(
        f"{folder}: no images in this folder, found {what};"
        f" expected {', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))}"
    )


def _images_in(folder: Path) -> tuple[list[Path], list[str]]:
    try:
        return find_images(p for p in folder.iterdir() if p.is_file())
    except OSError as error:
        raise TrianflowError(f"{folder}: {error.strerror or error}") from None


# --- time stamps --------------------------------------------------------------------------------------------


def _find_times(folder: Path, files: list[Path]) -> tuple[list[float] | None, str, str | None]:
    """Times in seconds, the file they come from, and a note where a file was there but could not be used."""
    note = None
    for place in (folder, folder.absolute().parent):
        for name in _TIMES_FILES:
            path = place / name
            if not path.is_file():
                continue
            times, problem = _read_times(path, [f.name for f in files])
            if times is not None:
                return times, str(path), None
            note = note or f"{path} is not used: {problem}; times come from the frame rate"
    return None, "", note


def _read_times(path: Path, names: list[str]) -> tuple[list[float] | None, str]:
    by_name: dict[str, float] = {}
    in_order: list[float] = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            line = line.split("#")[0].strip()
            if not line:
                continue
            fields = [f for f in re.split(r"[,;\s]+", line) if f]
            if len(fields) > 1 and re.fullmatch(r"\d{4}-\d\d-\d\d", fields[0]):
                fields = [" ".join(fields[:2]), *fields[2:]]
            in_order.append(_seconds(fields[0]))
            if len(fields) > 1:
                by_name[fields[1].replace("\\", "/").split("/")[-1]] = in_order[-1]
    except (OSError, ValueError) as error:
        return None, f"{error}"
    if all(name in by_name for name in names):
        times = [by_name[name] for name in names]
    elif len(in_order) == len(names):
        times = in_order
    else:
        return None, f"it has {len(in_order)} times for {len(names)} images"
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        return None, "its times do not rise"
    return times, ""


def _seconds(text: str) -> float:
    """Seconds of a number (integers from 1e11 on are milli-, micro- or nanoseconds) or of a date (UTC)."""
    if text[4:5] == "-":
        whole, _, fraction = text.replace("T", " ").partition(".")
        moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    if text.isdecimal():
        unit = next(
            u for below, u in ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (np.inf, 1e9)) if int(text) < below
        )
        return int(text) / unit
    return float(text)
