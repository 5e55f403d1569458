"""Pictures, folders and videos that the tests of frames read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth random RGB image: compressible, and different for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_folder(folder: Path, number: int = 5, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        Image.fromarray(picture(i)).save(folder / f"{i:06d}{suffix}")
    return folder


def write_video(path: Path, number: int = 30, fps: float = 20.0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    assert writer.isOpened()
    for i in range(number):
        writer.write(np.full((size[1], size[0], 3), 8 * i, np.uint8) + picture(i % 3, *size) // 16)
    writer.release()
    return path
