"""The README's pictures: made by one command, and those in the repository are of the present code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.browser.devices import find_browser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    import make_readme_pictures

    sys.path.remove(str(ROOT / "tools"))
    return make_readme_pictures


def test_an_animation_of_every_third_frame(tool: Any, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (1280, 912))
    for i in range(8):
        writer.write(np.full((912, 1280, 3), 30 * i, np.uint8))
    writer.release()
    tool.write_animation(tmp_path / "a.avi", tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as animation:
        assert (animation.size, animation.n_frames, animation.info["loop"]) == ((720, 513), 3, 0)
        for i in range(3):
            animation.seek(i)
            assert np.asarray(animation.convert("RGB")).mean() == pytest.approx(90 * i, abs=4)


def test_a_palette(tool: Any, tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :96]
    picture = np.stack([x, y, 128 + 0 * x], -1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    tool.reduce_png(tmp_path / "a.png", tmp_path / "b.png")
    reduced = Image.open(tmp_path / "b.png")
    assert reduced.mode == "P"
    assert np.abs(np.asarray(reduced.convert("RGB")).astype(int) - picture).max() < 12


@pytest.mark.slow
def test_they_are_of_the_present_code(tool: Any, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    pytest.importorskip("evo")
    if find_browser() is None:
        pytest.skip("no Chromium")
    made = tool.make_pictures(tmp_path)
    assert {path.name for path in made} == {"demo_seen.webp", "demo_trajectory.png", "demo_report.png"}
    for path in made:
        with Image.open(path) as new, Image.open(ROOT / "assets" / path.name) as kept:
            assert new.size == kept.size
            assert getattr(new, "n_frames", 1) == getattr(kept, "n_frames", 1)
            small = new.width // 8, new.height // 8
            a, b = (np.asarray(p.convert("RGB").resize(small, Image.Resampling.BOX)).astype(int) for p in (new, kept))
            assert np.abs(a - b).mean() < 6, f"{path.name}: python tools/make_readme_pictures.py"
    assert made[0].stat().st_size < 1_500_000
