"""Measurements of an input with planted motion, repeats and light."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.frames import open_frames
from trianflow.data.inspection import implausible, inspect_frames, suggest_stride
from trianflow.geometry.camera import Camera


def write_pan(folder: Path, number: int, step: float, level: int = 128) -> Path:
    """A textured wall that moves by `step` pixels a frame in pictures of 320x240."""
    noise = np.random.default_rng(0).normal(0, 1, (300, 320 + int(number * abs(step)) + 8)).astype(np.float32)
    wall = cv2.GaussianBlur(noise, (0, 0), 3)
    wall = (level + wall / wall.std() * level / 4).clip(0, 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        left = round(i * step)
        cv2.imwrite(str(folder / f"{i:04d}.png"), wall[:240, left : left + 320])
    return folder


@pytest.mark.parametrize(("step", "stride"), [(2.0, 4), (6.4, None), (16.0, None)])
def test_flow_and_stride(tmp_path: Path, step: float, stride: int | None) -> None:
    found = inspect_frames(open_frames(write_pan(tmp_path, 60 if step < 3 else 12, step)))
    assert found.flow == pytest.approx(step / 320 * 100, rel=0.1)
    assert found.stride == stride
    assert found.readable == found.scanned
    assert found.size == (320, 240)
    assert found.fps == pytest.approx(10)


def test_repeats_darkness_and_damage(tmp_path: Path) -> None:
    folder = write_pan(tmp_path, 12, 4, level=12)
    (folder / "0005.png").write_bytes((folder / "0004.png").read_bytes())
    (folder / "0009.png").write_bytes(b"")
    found = inspect_frames(open_frames(folder))
    assert (found.scanned, found.readable, found.pairs, found.duplicates) == (12, 11, 9, 1)
    assert found.problems == (("0009.png", "the file is empty (0 bytes)"),)
    assert found.brightness < 25


def test_sample_of_a_long_input(tmp_path: Path) -> None:
    found = inspect_frames(open_frames(write_pan(tmp_path, 60, 2), stride=2), max_frames=10, flow_pairs=3)
    assert found.frames == 30
    assert found.scanned == 10
    assert found.pairs == 5
    assert found.flow == pytest.approx(4 / 320 * 100, rel=0.1)


def test_one_frame_and_none(tmp_path: Path) -> None:
    folder = write_pan(tmp_path, 1, 0)
    found = inspect_frames(open_frames(folder))
    assert (found.scanned, found.pairs, found.flow, found.fps) == (1, 0, None, None)
    (folder / "0000.png").write_bytes(b"x")
    assert inspect_frames(open_frames(folder)).size is None


def test_suggest_stride() -> None:
    assert suggest_stride(None) is None
    assert suggest_stride(0.0) is None  # standing still: no stride helps
    assert suggest_stride(0.5) == 6
    assert suggest_stride(0.1) == 10
    assert suggest_stride(0.1, frames=50) == 5
    assert suggest_stride(0.1, frames=5) is None
    assert suggest_stride(2.0, 3) is None
    assert suggest_stride(12.0, 4) == 1
    assert suggest_stride(12.0, 1) is None


def test_implausible_cameras() -> None:
    assert implausible(Camera(700, 700, 600, 180, 1226, 370)) == []
    assert "fx / fy" in implausible(Camera(700, 500, 319, 239, 640, 480))[0]
    assert "cx = 180" in implausible(Camera(700, 700, 180, 180, 1226, 370))[0]
    assert "field of view" in implausible(Camera(5000, 5000, 319, 239, 640, 480))[0]
