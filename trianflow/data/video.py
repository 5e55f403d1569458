"""Video files as a stream of frames, with the container's time stamps."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2

from trianflow.data.decoding import quiet_opencv
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError

# streams without an index: their frame count is a guess from the size (26 for 37 frames was seen)
_WITHOUT_INDEX = frozenset({".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".h264", ".h265", ".264"})


class VideoFile(FrameSource):
    """A video file, read with OpenCV.

    Frames are counted by decoding from the beginning, since seeking lands on the wrong frame in many codecs.
    The rotation tag of phone videos is applied. Times are the container's, kept rising: a stamp that does not
    rise (some streams have none) is replaced by the one before plus a frame.
    """

    kind = "video"

    def __init__(self, path: Path, *, start: int, end: int | None, stride: int, fps: float | None) -> None:
        super().__init__(path, path.name, start=start, end=end, stride=stride)
        self._given_fps = fps
        capture = _open(path)
        try:
            with quiet_opencv():
                promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
                rate = capture.get(cv2.CAP_PROP_FPS)
                if not capture.grab():
                    raise TrianflowError(
                        f"{path}: the video opens, but not one frame can be decoded (codec? damage?)"
                    )
        finally:
            capture.release()
        counted = math.isfinite(promised) and 0 < promised < 1e9 and path.suffix.lower() not in _WITHOUT_INDEX
        self.total = int(promised) if counted else None
        self.fps = fps or (rate if math.isfinite(rate) and 0 < rate < 1e5 else 30.0)
        self.times_source = f"{fps:g} frames a second" if fps else f"time stamps of {path.name}"
        self._check_start()

    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        capture = _open(self.path)
        position, last = -1, -math.inf  # number and time of the frame that was grabbed last
        try:
            for index in indices:
                while position < index:
                    with quiet_opencv():
                        more = capture.grab()
                        stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if more else 0.0
                    if not more:
                        self._ended(position + 1)
                        return
                    position += 1
                    if not (math.isfinite(stamp) and stamp > last):
                        stamp = last + 1 / self.fps if position else 0.0
                    last = stamp
                with quiet_opencv():
                    good, image = capture.retrieve()
                time = index / self._given_fps if self._given_fps else last
                name = f"{self.name}#{index}"
                if good and image is not None:
                    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
                    yield Frame(index, time, image, name)
                else:
                    yield Frame(index, time, None, name, problem="could not be decoded")
        finally:
            capture.release()

    def _ended(self, read: int) -> None:
        if self.total is not None and read < self.total:
            note = (
                f"{self.name}: the container promises {self.total} frames but {read} could be read;"
                " the file is damaged or cut short"
            )
            if note not in self._notes:
                self._notes.append(note)
        if read <= self.start:
            raise TrianflowError(f"{self.name} ends after {read} frames, before --start {self.start}")


def _open(path: Path) -> cv2.VideoCapture:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise TrianflowError(f"{path}: {error.strerror or error}") from None
    if not head:
        raise TrianflowError(f"{path}: the file is empty (0 bytes)")
    if (
        b"\0" not in head
    ):  # FFmpeg would draw a text file as a terminal, and would follow a playlist to the network
        raise TrianflowError(f"{path}: a text file, neither a video nor a folder of images")
    os.environ.setdefault(
        "OPENCV_FFMPEG_LOGLEVEL", "-8"
    )  # FFmpeg's own messages; read once, at the first video
    backends = cv2.videoio_registry.getStreamBackends()
    backend = cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in backends else cv2.CAP_ANY
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path), backend)
    if not capture.isOpened():
        capture.release()
        reason = "no video that OpenCV can open; convert it with: ffmpeg -i IN -c:v libx264 OUT.mp4"
        if head[4:8] == b"ftyp" and not _has_index(path):
            reason = "the recording was cut short: its index (moov) is missing, so no frame can be found"
        raise TrianflowError(f"{path}: {reason}")
    return capture


def _has_index(path: Path) -> bool:
    """Whether an MP4 file has a complete `moov` box at its top level."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if head[4:8] == b"moov":
                return position + length <= size
            if length < 8:
                break
            position += length
    return False
