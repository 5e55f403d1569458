"""`tools/bench_report.py` on a short drive: what it prints, and that a limit that is passed makes it fail."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.browser.devices import find_browser

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")
    pytest.importorskip("evo")
    if find_browser() is None:
        pytest.skip("no Chromium found for the browser tests: install one (Debian: apt install chromium)")
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc")
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_report")


@pytest.mark.slow
def test_a_short_drive(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "EVERY", 8)
    monkeypatch.setattr(tool, "SECONDS", 60.0)  # of a machine that does other things
    monkeypatch.setattr(sys, "argv", ["bench_report.py", "--frames", "20", "--out", str(tmp_path)])
    for limit, code in ((15.0, 0), (0.001, 1)):
        monkeypatch.setattr(tool, "PAGE_MB", limit)
        monkeypatch.setattr(tool, "GROWTH_MB", 500.0)  # the first frames take what the libraries need
        monkeypatch.setattr(tool, "LATE_MB", 500.0)
        assert tool.main() == code
    said = capsys.readouterr().out
    assert said.count(f"{8:6d} frames  ") == said.count(f"{16:6d} frames  ") == 2
    assert said.count("rendering") == 1  # the second time the video is there
    size = (tmp_path / "report.html").stat().st_size / 1e6
    assert f"ok    the page has {size:.2f} MB (limit 15 MB)" in said
    assert f"FAIL  the page has {size:.2f} MB (limit 0.001 MB)" in said
    assert "points, " in said
