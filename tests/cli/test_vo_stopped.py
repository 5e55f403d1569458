"""`trianflow vo` that is interrupted or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from tests.cli.vo_results import FILES, report_of, statuses
from trianflow.trajectory import Trajectory


def many_frames(drive: Path, number: int) -> Path:
    """A long sequence of hard links to the frames, there and back."""
    files = sorted((drive / "images").iterdir())
    files = files + files[-2:0:-1]
    (drive / "long").mkdir()
    for i in range(number):
        os.link(files[i % len(files)], drive / "long" / f"{i:05d}.png")
    return drive / "long"


def wait_for_rows(process: subprocess.Popen[str], file: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") <= number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupt_leaves_results(drive: Path, tmp_path: Path, started) -> None:
    process = started("vo", many_frames(drive, 3000), "--out", tmp_path / "a", "--preset", "fast", cwd=tmp_path)
    wait_for_rows(process, tmp_path / "a" / "trajectory.tum", 10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "trianflow: interrupted"
    number = len(statuses(tmp_path / "a"))
    assert 10 <= number < 3000
    assert f"stopped after {number} frames" in err
    assert report_of(tmp_path / "a")["state"] == "interrupted"
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES


def test_kill_leaves_a_readable_trajectory(drive: Path, tmp_path: Path, started) -> None:
    out = tmp_path / "a"
    process = started("vo", many_frames(drive, 3000), "--out", out, "--preset", "fast", cwd=tmp_path)
    wait_for_rows(process, out / "trajectory.tum", 10)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    tum, kitti = Trajectory.load(out / "trajectory.tum"), Trajectory.load(out / "trajectory.kitti")
    assert 10 <= len(tum) < 3000
    assert len(tum) - len(kitti) in (0, 1)  # the row of one file is written after that of the other
    np.testing.assert_allclose(tum.times, np.arange(len(tum)) / 10)
    assert report_of(out)["state"] == "running"


def test_interrupt_tells_what_was_written_and_what_was_not(drive: Path, tmp_path: Path, started) -> None:
    out, words = tmp_path / "a", ["--preset", "fast", "--report", "--overlay", tmp_path / "place" / "seen.mp4"]
    process = started("vo", many_frames(drive, 3000), "--out", out, *words, cwd=tmp_path)
    wait_for_rows(process, out / "trajectory.tum", 1)
    (tmp_path / "place").rmdir()
    wait_for_rows(process, out / "trajectory.tum", 12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (stopped,) = (line for line in err.splitlines() if line.startswith("stopped after"))
    files = stopped.partition(f"{out}: ")[2].split(", ")
    assert set(files) == {path.name for path in out.iterdir()}
    assert "report.html" in files
    assert "seen.mp4: cannot write the video: OpenCV cannot open it" in err
