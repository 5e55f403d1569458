"""A camera that is faster than the work: the newest frame is taken, and what was dropped is counted."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from trianflow.data.frames import open_frames
from trianflow.data.webcam import NewestShot, Webcam
from trianflow.errors import TrianflowError, UsageError


class FakeCamera:
    """Delivers a picture each time it is told to; picture n has blue n, and comes at n / 30 seconds."""

    def __init__(self, total: int = 1000, size: tuple[int, int] = (6, 8)) -> None:
        self.total, self.size = total, size
        self.released = False
        self._allowed = threading.Semaphore(0)
        self._asked = threading.Condition()
        self._reads = self._delivered = 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        with self._asked:
            self._reads += 1
            number = self._reads - 1
            self._asked.notify_all()
        self._allowed.acquire()
        if number >= self.total or self.released:
            return False, None
        image = np.zeros((*self.size, 3), np.uint8)
        image[..., 0] = number
        return True, image

    def release(self) -> None:
        self.released = True

    def clock(self) -> float:
        return 100 + (self._reads - 1) / 30

    def deliver(self, number: int) -> None:
        """Let so many pictures come; back when all have been taken by the thread that reads."""
        for _ in range(number):
            with self._asked:
                self._delivered += 1
                self._allowed.release()
                assert self._asked.wait_for(lambda: self._reads > self._delivered, 20)

    def end(self) -> None:
        self.released = True
        self._allowed.release()


def webcam(camera: FakeCamera, monkeypatch: pytest.MonkeyPatch, **kwargs: int) -> Webcam:
    monkeypatch.setattr("trianflow.data.webcam.NewestShot", lambda capture: NewestShot(capture, clock=camera.clock))

    def opener(index: int) -> FakeCamera:
        assert index == 3
        threading.Thread(target=camera.deliver, args=(1,), daemon=True).start()
        return camera

    return Webcam(3, opener=opener, **kwargs)


def test_frames_are_dropped_instead_of_lagging(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera()
    source = webcam(camera, monkeypatch)
    stream = iter(source)
    first = next(stream)
    assert (first.index, first.time, first.name) == (0, 0, "webcam3#0")
    assert first.image is not None
    assert source.notes == []
    for coming, index, dropped in ((1, 1, 0), (5, 6, 4), (1, 7, 4), (30, 37, 33)):
        camera.deliver(coming)
        frame = next(stream)
        assert frame.index == index
        assert frame.time == pytest.approx(index / 30)
        assert frame.image is not None
        assert frame.image[0, 0].tolist() == [0, 0, index], "the newest, RGB"
        assert source.dropped == dropped
    assert source.notes == ["webcam3: 33 frames came while others were worked on, and were dropped"]
    threading.Timer(0, camera.end).start()
    assert list(stream) == []
    assert camera.released
    assert source.notes[0] == "webcam3: the camera has ended after frame 37"
    assert not [thread for thread in threading.enumerate() if thread.name == "trianflow-webcam"]


def test_an_early_end_gives_the_camera_back(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera()
    stream = iter(webcam(camera, monkeypatch))
    next(stream)
    threading.Timer(0.05, camera._allowed.release).start()
    stream.close()  # type: ignore[attr-defined]
    assert camera.released


def test_end_and_stride_go_by_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera()
    source = webcam(camera, monkeypatch, end=10, stride=3)
    stream = iter(source)
    taken = [next(stream).index]
    for coming in (3, 4):
        camera.deliver(coming)
        taken.append(next(stream).index)
    assert taken == [0, 3, 7]
    camera.deliver(5)
    threading.Timer(0.1, camera._allowed.release).start()
    assert list(stream) == []
    assert source.length is None


def test_the_size_is_that_of_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(size=(48, 64))
    threading.Timer(0.3, camera._allowed.release).start()
    assert webcam(camera, monkeypatch).first_image_size() == (64, 48)


def test_a_number_is_a_webcam_unless_a_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = open_frames("97")
    assert (source.kind, source.name, source.total, source.length) == ("webcam", "webcam97", None, None)
    with pytest.raises(TrianflowError, match="webcam 97: cannot be opened; is it connected"):
        source.first_image_size()
    with pytest.raises(UsageError, match="a webcam has no folder of depth"):
        open_frames("97", depth="depth")
    with pytest.raises(UsageError, match="no such file"):
        open_frames("-1")
    (tmp_path / "97").mkdir()
    with pytest.raises(TrianflowError, match="97"):
        open_frames("97")
