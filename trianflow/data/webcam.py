"""A camera at this computer as a stream of frames: always the newest one, whatever came between is dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from trianflow.data.decoding import quiet_opencv
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError

_PATIENCE = 2.0  # seconds for a camera to deliver its last picture


class Capture(Protocol):
    """What is used of a `cv2.VideoCapture`."""

    def read(self) -> tuple[bool, np.ndarray | None]:
        """The next picture, BGR or grey, once there is one; False where the camera has ended."""

    def release(self) -> None:
        """Give the camera back."""


@dataclass(frozen=True)
class Shot:
    """A picture of the camera: its number among all that came, seconds since the first, and the image as read."""

    number: int
    time: float
    image: np.ndarray


class NewestShot:
    """Reads a camera in a background thread as fast as it delivers, and keeps the newest picture alone.

    Args:
        capture: read and in the end released by the thread.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, capture: Capture, clock: Callable[[], float] = time.monotonic) -> None:
        self._capture, self._clock = capture, clock
        self._changed = threading.Condition()
        self._shot: Shot | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="trianflow-webcam", daemon=True)
        self._thread.start()

    def wait(self, number: int) -> Shot | None:
        """The newest picture as soon as its number is at least `number`; None where the camera ends before."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or (self._shot is not None and self._shot.number >= number))
            return self._shot if self._shot is not None and self._shot.number >= number else None

    def close(self) -> None:
        """End the thread, which gives the camera back; one that does not answer is left to it."""
        with self._changed:
            self._ended = True
        self._thread.join(_PATIENCE)

    def _read(self) -> None:
        begin, number = 0.0, 0
        try:
            while not self._ended:
                with quiet_opencv():
                    good, image = self._capture.read()
                if not good or image is None:
                    break
                now = self._clock()
                begin = begin if number else now
                with self._changed:
                    self._shot = Shot(number, now - begin, image)
                    self._changed.notify_all()
                number += 1
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._capture.release()


class Webcam(FrameSource):
    """A camera by its number. Frames that came while another was worked on are dropped, and `notes` counts them.

    Times are those of the computer's clock when a picture arrived, from 0; frame numbers count all pictures, so that
    gaps show. Each iteration opens the camera anew.

    Args:
        index: of the camera, from 0.
        start, end, stride: in numbers of all pictures; `stride` is the least step.
        fps: if given, times are the numbers by this rate.
        opener: gives a camera; for tests.

    Attributes:
        dropped: pictures of the last iteration that came and were not taken.
    """

    kind = "webcam"

    def __init__(
        self,
        index: int,
        *,
        start: int = 0,
        end: int | None = None,
        stride: int = 1,
        fps: float | None = None,
        opener: Callable[[int], Capture] | None = None,
    ) -> None:
        super().__init__(Path(f"webcam{index}"), f"webcam{index}", start=start, end=end, stride=stride)
        self.times_source = f"{fps:g} frames a second" if fps else "the computer's clock"
        self.dropped = 0
        self._index, self._fps, self._opener = index, fps, opener or _open

    @property
    def notes(self) -> list[str]:
        """As of any source, and how many frames were dropped."""
        notes = super().notes
        if self.dropped:
            notes.append(f"{self.name}: {self.dropped} frames came while others were worked on, and were dropped")
        return notes

    def __iter__(self) -> Iterator[Frame]:
        return self.select(self._indices())  # not ahead of the work: frames would be old when they are used

    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        self.dropped, last = 0, -1
        newest = NewestShot(self._opener(self._index))
        try:
            for wanted in indices:
                if wanted <= last:
                    continue
                shot = newest.wait(wanted)
                if shot is None:
                    self._notes.append(f"{self.name}: the camera has ended after frame {max(last, 0)}")
                    return
                if self.end is not None and shot.number >= self.end:
                    return
                self.dropped += (shot.number - wanted) // self.stride
                last = shot.number
                image = shot.image
                rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
                yield Frame(last, last / self._fps if self._fps else shot.time, rgb, f"{self.name}#{last}")
        finally:
            newest.close()


def _open(index: int) -> cv2.VideoCapture:
    with quiet_opencv():
        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        capture.release()
        raise TrianflowError(
            f"webcam {index}: cannot be opened; is it connected, allowed for this user, and not in use by another"
            " program? Or give a video file or folder"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
