"""Prepared frames of a recorded source in any order: decoded on demand, or from the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from trianflow.data.frames import FrameSource
from trianflow.data.images import ImageFolder
from trianflow.data.pairs.cache import DEFAULT_FOLDER, Cache
from trianflow.data.pairs.prepare import Preparation
from trianflow.errors import TrianflowError

_VERSION = 1  # of the pictures that `Preparation` makes: another one makes all caches stale


class UnreadableFrame(Exception):
    """Which file gave no picture and why, in one line."""


class FrameStore:
    """The frames of a selection without its stride, numbered from 0, as pictures of one size.

    A folder is decoded on demand, or cached as a whole where a cache folder is given. A video is always cached,
    since its frames can only be read in their order. What is read is the same to the bit.

    Args:
        frames: with stride 1.
        preparation: made for the camera of the frames.
        identity: what tells this source from others in the cache folder.
        cache: folder of the cache, None for `runs/cache` and videos only.

    Attributes:
        times: `(N,)` seconds of the frames.

    Raises:
        TrianflowError: the cache cannot be written.
    """

    def __init__(self, frames: FrameSource, preparation: Preparation, identity: list[Any], cache: Path | None) -> None:
        self._frames, self._preparation = frames, preparation
        self._identity, self._folder = identity, cache or DEFAULT_FOLDER
        self._cache: Cache | None = None
        self._array: np.ndarray | None = None
        self._unreadable: dict[str, str] = {}
        if isinstance(frames, ImageFolder) and cache is None:
            end = len(frames.files) if frames.end is None else min(frames.end, len(frames.files))
            self.times = np.array(frames.times[frames.start : end])
            return
        self._cache = self.side_cache([])
        about = self._cache.read()
        if about is None:
            about = self._build(self._cache)
        self.times = np.array(about["times"])
        self._unreadable = about["unreadable"]

    def __len__(self) -> int:
        """The number of frames, unreadable ones included."""
        return len(self.times)

    def side_cache(self, purpose: list[Any]) -> Cache:
        """A cache for what is computed from these frames: stale whenever their own would be."""
        frames = self._frames
        files = frames.files if isinstance(frames, ImageFolder) else [frames.path]
        camera = self._preparation.camera
        facts = {
            "version": _VERSION,
            "path": str(frames.path.absolute()),
            "files": len(files),
            "state": _state(files),
            "selection": [frames.start, frames.end],
            "frame_size": list(frames.first_image_size()),
            "camera": list(astuple(self._preparation.source_camera)),
            "size": [camera.width, camera.height],
        }
        return Cache(self._folder, "-".join([frames.name, *map(str, purpose)]), [*self._identity, *purpose], facts)

    def image(self, number: int) -> np.ndarray:
        """The picture of a frame, `(H, W, 3)` RGB uint8; not to be written to.

        Raises:
            UnreadableFrame: it cannot be decoded, or is of another size than the others.
        """
        if str(number) in self._unreadable:
            raise UnreadableFrame(self._unreadable[str(number)])
        if self._cache is not None:
            if self._array is None:
                self._array = self._cache.open()
            return self._array[number]
        frame = next(self._frames.select([self._frames.start + number]))
        if frame.image is None:
            raise UnreadableFrame(f"{self._frames.path / frame.name}: {frame.problem}")
        return self._preparation.image(frame.image)

    def _build(self, cache: Cache) -> dict[str, Any]:
        about: dict[str, Any] = {"times": [], "unreadable": {}}
        camera = self._preparation.camera
        blank = np.zeros((camera.height, camera.width, 3), np.uint8)

        def pictures() -> Iterator[np.ndarray]:
            bar = tqdm(self._frames, f"cache of {self._frames.name}", self._frames.length, unit=" frames", disable=None)
            for number, frame in enumerate(bar):
                about["times"].append(frame.time)
                if frame.image is None:
                    place = self._frames.path
                    place = place / frame.name if self._frames.kind == "folder" else place.with_name(frame.name)
                    about["unreadable"][str(number)] = f"{place}: {frame.problem}"
                    yield blank
                else:
                    yield self._preparation.image(frame.image)

        cache.write(pictures(), np.dtype(np.uint8), about, self._frames.length)
        return about

    def __getstate__(self) -> dict[str, Any]:
        """Without the open array."""
        return self.__dict__ | {"_array": None}


def _state(files: list[Path]) -> str:
    """A digest of names, sizes and times of change."""
    digest = hashlib.sha256()
    for file in files:
        try:
            stat = file.stat()
        except OSError as error:
            raise TrianflowError(f"{file}: {error.strerror or error}") from None
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
