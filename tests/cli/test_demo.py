"""`trianflow demo`: the bundled clip fits its truth, and a misfit or a missing clip is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from trianflow import assets
from trianflow.cli import demo
from trianflow.trajectory import Trajectory

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_bundled_clip_fits_its_truth(tmp_path: Path, trianflow) -> None:
    result = trianflow("demo", "--out", tmp_path / "demo")
    assert result.code == 0, result.out + result.err
    found = re.search(r"ATE ([\d.]+) % of the path after 7-DoF alignment: passed", result.out)
    assert found is not None
    assert float(found[1]) <= 1
    assert (tmp_path / "demo" / "trajectory.png").is_file()


@pytest.fixture
def small_clip(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small drive in the place of the bundled clip."""
    writer = cv2.VideoWriter(str(drive / "demo.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 96))
    for file in sorted((drive / "images").glob("*.png")):
        writer.write(cv2.imread(str(file)))
    writer.release()
    (drive / "calib.yaml").rename(drive / "demo_calib.yaml")
    (drive / "truth.tum").rename(drive / "demo_groundtruth.tum")
    monkeypatch.setattr(demo, "find_asset", lambda name: drive / name)


@pytest.mark.parametrize(("limit", "code", "word"), [(100.0, 0, "passed"), (1e-6, 1, "FAILED")])
@pytest.mark.usefixtures("small_clip")
def test_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trianflow, limit: float, code: int, word: str
) -> None:
    monkeypatch.setattr(demo, "LARGEST_ERROR", limit)
    result = trianflow("demo", "--out", tmp_path / "a")
    assert result.code == code
    assert f"{word} (limit {limit:g} %)" in result.out.splitlines()[-1]


def test_installed_without_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trianflow) -> None:
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "site-packages" / "trianflow" / "assets.py"))
    result = trianflow("demo", "--out", tmp_path / "a")
    assert result.code == 1
    assert "not to the installed package" in result.errors[0]
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_readme_example_runs_as_written(tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text()
    examples = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "assets/demo.mp4" in code]
    assert len(examples) == 1
    (tmp_path / "assets").symlink_to(REPOSITORY / "assets")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", examples[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "0 first [0. 0. 0.]"
    assert len(Trajectory.load(tmp_path / "demo.tum")) == len(done.stdout.splitlines())
