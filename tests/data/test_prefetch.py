"""The thread that reads ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.data.frame_files import write_folder, write_video
from trianflow.data.frames import Frame, open_frames
from trianflow.data.prefetch import prefetched


def reading_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "trianflow-frames"]


def test_thread_ends_with_the_iteration(tmp_path: Path) -> None:
    source = open_frames(write_folder(tmp_path, 20))
    assert len(list(source)) == 20
    assert not reading_threads()
    for frame in source:
        assert frame.index == 0
        break
    assert not reading_threads()
    iterator = iter(source)
    next(iterator)
    assert len(reading_threads()) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert not reading_threads()
    with pytest.raises(ZeroDivisionError):
        [1 / frame.index for frame in source]
    assert not reading_threads()


def test_video_is_released_on_an_early_stop(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    for _ in range(5):
        for _ in open_frames(path):
            break
    assert not reading_threads()


def test_errors_arrive_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_frames(write_folder(tmp_path, 5))

    def broken(indices: Iterable[int]) -> Iterator[Frame]:
        yield Frame(0, 0.0, None, problem="x")
        yield Frame(1, 0.0, None, problem="x")
        raise MemoryError("planted")

    monkeypatch.setattr(source, "_read", broken)
    iterator = iter(source)
    assert [next(iterator).index for _ in range(2)] == [0, 1]
    with pytest.raises(MemoryError, match="planted"):
        next(iterator)
    assert not reading_threads()


def test_reading_ahead_is_bounded_and_overlaps() -> None:
    made: list[int] = []
    closed = threading.Event()

    def slow() -> Iterator[int]:
        try:
            for i in range(50):
                made.append(i)
                yield i
        finally:
            closed.set()

    items = prefetched(slow(), ahead=2)
    assert not made  # nothing runs before it is asked for
    assert next(items) == 0
    time.sleep(0.3)
    assert 3 <= len(made) <= 4  # two wait, one is in hand
    items.close()  # type: ignore[attr-defined]
    assert closed.wait(1)
    assert len(made) <= 5
