"""`trianflow vo 0 --live` with a camera that is faster than the work."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.odometry.test_run import wall
from trianflow.odometry.live import Live
from trianflow.odometry.live_views import Scene

PICTURE = wall(400, 96)


class FastCamera:
    """Slides along a wall; gives a picture when it is asked for one, else 20 a second."""

    newest: FastCamera

    def __init__(self, index: int) -> None:
        assert index == 0
        FastCamera.newest = self
        self.wanted = threading.Semaphore(0)
        self._number = -1

    def read(self) -> tuple[bool, np.ndarray]:
        self.wanted.acquire(timeout=0.05)
        self._number += 1
        return True, PICTURE[:, self._number : self._number + 160].copy()

    def release(self) -> None:
        pass


class SlowView:
    """Takes as long as four pictures of the camera; the user closes it after `closes` scenes."""

    def __init__(self, closes: int = 1000) -> None:
        self.shown: list[int] = []
        self._closes = closes

    def show(self, scene: Scene) -> bool:
        self.shown.append(scene.step.index)
        for _ in range(4):
            FastCamera.newest.wanted.release()
        return len(self.shown) < self._closes

    def close(self) -> None:
        pass


def test_frames_are_dropped_and_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trianflow) -> None:
    view = SlowView()
    monkeypatch.setattr("trianflow.data.webcam._open", FastCamera)
    monkeypatch.setattr("trianflow.odometry.live.open_live", lambda: Live(view))
    words = ["--intrinsics", 150, 150, 79.5, 47.5, "--preset", "fast", "--out", tmp_path / "out"]
    result = trianflow("vo", 0, "--live", "--end", 80, *words)
    assert (result.code, result.errors) == (0, [])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    indices = [row["index"] for row in report["frames"]]
    assert view.shown == indices, "each that was tracked is shown"
    assert (np.diff(indices) > 0).all()
    assert max(np.diff(indices)) > 1
    dropped = indices[-1] + 1 - len(indices)
    note = f"webcam0: {dropped} frames came while others were worked on, and were dropped"
    assert note in report["notes"]
    assert f"trianflow: warning: {note}" in result.err
    assert not {"lost", "bridged"} & {row["status"] for row in report["frames"]}


def test_a_closed_window_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trianflow) -> None:
    monkeypatch.setattr("trianflow.data.webcam._open", FastCamera)
    monkeypatch.setattr("trianflow.odometry.live.open_live", lambda: Live(SlowView(closes=2)))
    words = ["--intrinsics", 150, 150, 79.5, 47.5, "--preset", "fast", "--out", tmp_path / "out"]
    result = trianflow("vo", 0, "--live", "--end", 30, *words)
    assert (result.code, result.errors) == (0, [])
    said = "trianflow: note: the window was closed; tracking goes on, and Ctrl-C ends it"
    assert result.err.splitlines().count(said) == 1
