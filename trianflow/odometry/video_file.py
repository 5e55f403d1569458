"""A video file that is written picture by picture and appears under its name when it is complete."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from trianflow.data.decoding import quiet_opencv
from trianflow.errors import TrianflowError

CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG"}  # browsers play the second
_RATES = (1.0, 60.0)  # pictures a second that players can play
_DEFAULT_RATE = 10.0  # where times do not tell
_WAITING = 10  # pictures that tell the rate


class VideoFileWriter:
    """Writes RGB pictures of one size to a video file.

    OpenCV does not tell where a video cannot be written, so that is found out here: at the tenth picture, when the
    file is opened, and at the end, when the pictures in it are counted.

    Args:
        path: one of the suffixes in `CODECS`; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
        self._writer: cv2.VideoWriter | None = None
        self._waiting: list[tuple[np.ndarray, float]] = []  # until there are enough to tell the rate
        self._written = 0
        self._problem = ""

    def write(self, picture: np.ndarray, time: float) -> None:
        """Append a picture.

        Args:
            picture: `(H, W, 3)` uint8 RGB, H and W even, of one size.
            time: in seconds; the median step of the first ten decides how many pictures are shown a second.
        """
        if self._problem:
            return
        if self._writer is not None:
            self._append(picture)
            return
        self._waiting.append((picture, time))
        if len(self._waiting) == _WAITING:
            self._open()

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            TrianflowError: it could not be written, or there was no picture; an older file of the name stays.
        """
        try:
            if self._waiting:
                self._open()
            if self._writer is not None:
                with quiet_opencv():
                    self._writer.release()
            if not self._problem and not self._written:
                self._problem = "there was no picture to write"
            if not self._problem:
                found = _count(self._temporary)
                if found < self._written:
                    self._problem = f"of {self._written} pictures {found} arrived in the file; is the disk full?"
            if self._problem:
                raise TrianflowError(f"{self.path}: cannot write the video: {self._problem}")
            self._temporary.replace(self.path)
        except OSError as error:
            raise TrianflowError(f"{self.path}: cannot write the video: {error.strerror}") from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave no file; an older one of the name stays."""
        if self._writer is not None:
            self._writer.release()
        self._temporary.unlink(missing_ok=True)

    def _open(self) -> None:
        height, width = self._waiting[0][0].shape[:2]
        codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        steps = np.diff([time for _, time in self._waiting])
        rate = 1 / float(np.median(steps[steps > 0])) if (steps > 0).any() else _DEFAULT_RATE
        rate = round(min(max(rate, _RATES[0]), _RATES[1]), 3)
        with quiet_opencv():
            self._writer = cv2.VideoWriter(str(self._temporary), codec, rate, (width, height))
        if not self._writer.isOpened():
            self._problem = "OpenCV cannot open it; try another folder or suffix"
        else:
            for picture, _ in self._waiting:
                self._append(picture)
        self._waiting.clear()

    def _append(self, picture: np.ndarray) -> None:
        assert self._writer is not None
        with quiet_opencv():
            self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self._written += 1


def _count(path: Path) -> int:
    """How many pictures there are in a video: as its index promises, in .webm, which has none, by reading all."""
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        if path.suffix == ".webm":
            promised: float = sum(1 for _ in iter(capture.grab, False))
        else:
            promised = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0.0
        capture.release()
    return int(promised) if math.isfinite(promised) and promised > 0 else 0
