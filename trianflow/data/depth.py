"""Depth files: 16-bit PNG with a scale, or `.npy`; and measured depth beside the images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from trianflow.data.decoding import UnreadableImage, decode_raw, read_bytes
from trianflow.data.images import ImageFolder, natural_key
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.data.frames import FrameSource

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".npy"})
LARGEST_TIME_OFFSET = 0.02  # seconds between a colour and a depth image named by time (TUM's associate.py)
_NEEDS_SCALE = (
    "the depth images hold integers: say how many make a metre with --depth-scale"
    " (KITTI 256, TUM 5000, millimetres 1000)"
)


def read_depth(path: str | Path, scale: float | None = None) -> np.ndarray:
    """Read one depth image.

    Args:
        path: a 16-bit single-channel PNG, TIFF or PGM, a float TIFF, or `.npy`.
        scale: stored units per metre; needed for integers, for floats the default is 1 (metres).

    Returns:
        `(H, W)` float32 depth along z in metres; 0 where unknown: stored as 0, negative, not finite, or the
        largest 16-bit value.

    Raises:
        UsageError: integers without a scale.
        UnreadableImage: damaged, more than one channel, or 8 bits (a picture of the depth, not the depth).
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UnreadableImage(f"not a readable .npy file ({str(error)[:80]})") from None
    else:
        values = decode_raw(read_bytes(path))
    try:
        return decode_depth(values, scale)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def decode_depth(values: np.ndarray, scale: float | None = None) -> np.ndarray:
    """An array as it is stored, as one depth image.

    Args:
        values: `(H, W)`, or with one channel in front or behind.
        scale: as of `read_depth`, which tells also what is returned and what counts as unknown.

    Raises:
        UsageError: integers without a scale.
        UnreadableImage: no pixel, more than one channel, 8 bits, or no numbers.
    """
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size:
        raise UnreadableImage(f"an array of shape {values.shape} is not one depth image")
    if values.dtype == np.uint8:
        raise UnreadableImage("8 bits a pixel: a picture of the depth, not the depth (16-bit PNG or .npy)")
    if values.dtype.kind not in "fiu":
        raise UnreadableImage(f"values of type {values.dtype} are no depth")
    if scale is None and values.dtype.kind != "f":
        raise UsageError(_NEEDS_SCALE)
    depth = values.astype(np.float32) / np.float32(1 if scale is None else scale)
    unknown = ~(np.isfinite(depth) & (depth > 0))
    if values.dtype == np.uint16:
        unknown |= values == 65535
    depth[unknown] = 0
    return depth


def depth_png(depth: np.ndarray, scale: float) -> bytes:
    """The content of a 16-bit PNG that holds one depth image, as `read_depth` reads it.

    Args:
        depth: `(H, W)` along z; 0, negative or not finite where unknown.
        scale: stored units per unit of depth. What is beyond its range becomes its nearest or farthest value.
    """
    known = np.isfinite(depth) & (depth > 0)
    # 0 and the largest value say that a depth is unknown
    stored = np.where(known, np.clip(np.round(np.where(known, depth, 1) * scale), 1, 65534), 0)
    return cv2.imencode(".png", stored.astype(np.uint16))[1].tobytes()


def write_depth(path: str | Path, depth: np.ndarray, scale: float) -> None:
    """Write one depth image, as `read_depth` reads it.

    Args:
        path: `.png` (16 bits) or `.npy` (float32, exact).
        depth: `(H, W)` along z; 0, negative or not finite where unknown.
        scale: of a `.png`, as of `depth_png`.

    Raises:
        TrianflowError: the file cannot be written.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            np.save(path, np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32))
            return
        path.write_bytes(depth_png(depth, scale))
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write the depth: {error.strerror}") from error


class DepthFolder:
    """Depth files matched to the frames of a source.

    A frame has the file of its name (without suffix). Where not one has, the files are taken in natural order if there
    are as many as frames in the whole input. Where some have none and all names are time stamps (TUM), it is the
    nearest within 0.02 s. A frame without a partner has no depth, which `notes` says.

    Args:
        folder: with the depth files.
        source: the frames.
        scale: stored units per metre, None for float metres.

    Raises:
        UsageError: no such folder, or integer depth without a scale.
        TrianflowError: no depth files in it, or none that belongs to a frame.
    """

    def __init__(self, folder: Path, source: FrameSource, scale: float | None = None) -> None:
        if scale is not None and not 0 < scale < float("inf"):
            raise UsageError(f"--depth-scale must be positive, not {scale:g}")
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder of depth images")
        self.folder, self.scale = folder, scale
        self.notes: list[str] = []
        files = [
            f for f in folder.iterdir() if f.suffix.lower() in DEPTH_SUFFIXES and not f.name.startswith(".")
        ]
        depth_only = [f for f in files if f.stem.lower().endswith(".depth")]
        files = sorted(depth_only or files, key=natural_key)
        if not files:
            raise TrianflowError(f"{folder}: no depth files; expected {', '.join(sorted(DEPTH_SUFFIXES))}")
        self._files = self._match(files, source)
        if scale is None:
            self._check_scale(files)

    def read(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray | None, str]:
        """Depth of frame `index`, `(H, W)` float32 metres for frames of `size` (w, h), or None and why."""
        path = self._files.get(index)
        if path is None:
            return None, f"no depth file belongs to frame {index}"
        try:
            depth = read_depth(path, self.scale)
        except UnreadableImage as error:
            return None, f"{path.name}: {error}"
        if depth.shape != (size[1], size[0]):
            return (
                None,
                f"{path.name}: {depth.shape[1]}x{depth.shape[0]}, but the image is {size[0]}x{size[1]}",
            )
        return depth, ""

    def _match(self, files: list[Path], source: FrameSource) -> dict[int, Path]:
        images = source.files if isinstance(source, ImageFolder) else []
        by_stem = {_stem(f): f for f in files}
        stems = [_stem(f) for f in images]
        matched = {i: by_stem[stem] for i, stem in enumerate(stems) if stem in by_stem}
        if not matched and len(files) == source.total:
            return dict(enumerate(files))
        if not images:
            raise TrianflowError(
                f"{self.folder}: {len(files)} depth files, but {source.name} has {source.total} frames"
            )
        if len(matched) < len(images):
            matched = _by_time(stems, files) or matched
        missing = next((f.name for i, f in enumerate(images) if i not in matched), "")
        if not matched:
            raise TrianflowError(
                f"{self.folder}: {len(files)} depth files for {source.total} images, none named like"
                f" {missing}; the first is {files[0].name}"
            )
        if len(matched) < len(images):
            self.notes.append(
                f"{self.folder}: depth for {len(matched)} of {len(images)} images; none for {missing}"
            )
        return matched

    def _check_scale(self, files: list[Path]) -> None:
        for file in files[:20]:
            try:
                read_depth(file)
                return
            except UsageError:
                raise UsageError(f"{self.folder}: {_NEEDS_SCALE}") from None
            except UnreadableImage:
                continue


def _stem(path: Path) -> str:
    return re.sub(r"\.(color|depth)$", "", path.stem, flags=re.IGNORECASE)


def _by_time(stems: list[str], files: list[Path]) -> dict[int, Path]:
    """Nearest depth file within `LARGEST_TIME_OFFSET` for images named by seconds (1305031102.175304.png)."""
    names = [_stem(f) for f in files]
    if not all(re.fullmatch(r"\d{6,}\.\d+", name) for name in stems + names):
        return {}
    times = np.array([float(name) for name in names])
    matched = {}
    for index, stem in enumerate(stems):
        offsets = np.abs(times - float(stem))
        if offsets.min() <= LARGEST_TIME_OFFSET:
            matched[index] = files[int(offsets.argmin())]
    return matched
