"""A video file that is written picture by picture and appears under its name when it is complete."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

from trianflow.data.decoding import quiet_opencv
from trianflow.errors import TrianflowError

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # whose index tells how many pictures arrived
_RATES = (1.0, 60.0)  # pictures a second that players can play
_DEFAULT_RATE = 10.0  # of a single picture


class VideoFileWriter:
    """Writes RGB pictures of one size to a video file.

    OpenCV does not tell where a video cannot be written, so that is found out here: at the second picture, when the
    file is opened, and at the end, when the pictures in it are counted. Never raises before `close`.

    Args:
        path: one of the suffixes in `CODECS`; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
        self._writer: cv2.VideoWriter | None = None
        self._first: tuple[np.ndarray, float] | None = None  # waits for the second, which tells the rate
        self._written = 0
        self._problem = ""

    def write(self, picture: np.ndarray, time: float) -> None:
        """Append a picture.

        Args:
            picture: `(H, W, 3)` uint8 RGB, H and W even, of one size.
            time: in seconds; the first two decide how many pictures are shown a second.
        """
        if self._problem:
            return
        if self._writer is None:
            if self._first is None:
                self._first = picture, time
                return
            step = time - self._first[1]
            self._open(picture, 1 / step if step > 0 else _DEFAULT_RATE)
        self._append(picture)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            TrianflowError: it could not be written, or there was no picture; an older file of the name stays.
        """
        if self._writer is None and self._first is not None and not self._problem:
            self._open(self._first[0], _DEFAULT_RATE)
        try:
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

    def _open(self, picture: np.ndarray, rate: float) -> None:
        height, width = picture.shape[:2]
        codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        rate = round(min(max(rate, _RATES[0]), _RATES[1]), 3)
        with quiet_opencv():
            self._writer = cv2.VideoWriter(str(self._temporary), codec, rate, (width, height))
        if not self._writer.isOpened():
            self._problem = "OpenCV cannot open it; try another folder or suffix"
        elif self._first is not None:
            self._append(self._first[0])
        self._first = None

    def _append(self, picture: np.ndarray) -> None:
        if self._problem:
            return
        assert self._writer is not None
        with quiet_opencv():
            self._writer.write(np.ascontiguousarray(picture[..., ::-1]))
        self._written += 1


def _count(path: Path) -> int:
    """How many pictures the index of a video promises; 0 where there is none."""
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0.0
        capture.release()
    return int(promised) if math.isfinite(promised) and promised > 0 else 0
