"""How far a run is: plain lines, and a bar on a terminal."""

from __future__ import annotations

import numpy as np
import pytest

from trianflow.cli import progress


def test_plain_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(np.arange(0, 1000.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Progress(100) as shown:
        for i in range(100):
            shown.advance("lost" if i == 3 else "ok")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "10 of 100 (10 %) frames, 1.0 a second: 9 ok, 1 lost"
    with progress.Progress(None) as shown:
        for _ in range(100):
            shown.advance("ok")
    assert len(capsys.readouterr().err.splitlines()) == 3
    with progress.Progress(100, quiet=True) as shown:
        for _ in range(100):
            shown.advance("ok")
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(3) as shown:
        for status in ("first", "ok", "ok"):
            shown.advance(status)
        shown.say("a line")
    text = capsys.readouterr().err
    assert "3/3" in text
    assert "2 ok, 1 first" in text
    assert "a line\n" in text
