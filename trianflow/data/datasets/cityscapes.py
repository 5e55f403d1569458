"""Cityscapes sequences (Cordts et al., CVPR 2016): snippets of 30 images around each annotated one.

The archives are `leftImg8bit_sequence_trainvaltest.zip` and `camera_trainvaltest.zip`, unpacked into one folder.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.scanning import (
    content,
    fitted,
    image_files,
    left_out,
    missing_files,
    packed,
    require_folder,
    sub_folders,
)
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

BEFORE, AFTER = 19, 10  # images of a snippet before and after the annotated one, whose number names its camera file
_FPS = 17.0
_WIDTH, _HEIGHT = 2048, 1024
_KEPT_ROWS = 768  # above the bonnet of the car: the upper three quarters, as in Zhou et al., CVPR 2017
_SEQUENCE, _CAMERA = "leftImg8bit_sequence", "camera"
_IMAGE = re.compile(r"(.+)_(\d{6})_(\d{6})_leftImg8bit\.png")
_JSON = re.compile(r"(.+)_(\d{6})_(\d{6})_camera\.json")
_EXPECTED = f"{_SEQUENCE}/train/aachen/aachen_000000_000000_leftImg8bit.png and {_CAMERA}/train/aachen/*_camera.json"
_ARCHIVE = "camera_trainvaltest.zip"


def open_cityscapes(root: Path, *, crop: bool = False) -> DatasetContent:
    """Read Cityscapes snippets, named `train/aachen/aachen_000000_000019` after their annotated image.

    The camera is that of the snippet's `camera.json`. Images that are missing between the first and the last one stay
    frames without a picture. Times are the numbers of the images / 17 s. There are no poses and no depth.

    Args:
        root: with `leftImg8bit_sequence` and `camera`.
        crop: only the upper 768 rows, without the bonnet of the car; the camera is that of the window.

    Raises:
        TrianflowError: no such folder, or not one usable snippet in it.
    """
    require_folder(root, f"{_SEQUENCE} and {_CAMERA}")
    problems = packed(root, prefix=lambda stem: stem.removesuffix("_trainvaltest"))
    base = next((p for p in (root, *sub_folders(root)) if (p / _SEQUENCE).is_dir()), root)
    notes: list[str] = []
    sequences = []
    for split in sub_folders(base / _SEQUENCE) if (base / _SEQUENCE).is_dir() else []:
        for city in sub_folders(split):
            cameras = base / _CAMERA / split.name / city.name
            for name, images, camera_file in _snippets(city, cameras, problems, notes):
                try:
                    sequences.append(_sequence(f"{split.name}/{city.name}/{name}", images, camera_file, crop))
                except TrianflowError as error:
                    problems.append(str(error))
    return content(root, sequences, problems, _EXPECTED, notes)


def _snippets(
    city: Path, cameras: Path, problems: list[str], notes: list[str]
) -> list[tuple[str, dict[int, Path], Path]]:
    """Name, images by number and camera file of the snippets of a city; images of no snippet go to `problems`, other
    files to `notes`."""
    drives: dict[str, dict[int, Path]] = defaultdict(dict)
    strays = []
    for path in sorted(city.iterdir()):
        match = _IMAGE.fullmatch(path.name)
        if match:
            drives[f"{match[1]}_{match[2]}"][int(match[3])] = path
        else:
            strays.append(path.name)
    notes += left_out(city, strays, "no images of a snippet")
    found = []
    for path in sorted(cameras.glob("*_camera.json")) if cameras.is_dir() else []:
        match = _JSON.fullmatch(path.name)
        if not match:
            continue
        drive, annotated = f"{match[1]}_{match[2]}", int(match[3])
        wanted = range(annotated - BEFORE, annotated + AFTER + 1)
        images = {n: drives[drive].pop(n) for n in wanted if n in drives[drive]} if drive in drives else {}
        if images:
            found.append((path.name.removesuffix("_camera.json"), images, path))
    left = [path for images in drives.values() for path in images.values()]
    if left:
        problems.append(
            f"{left[0]}: no camera file in {cameras} belongs to {len(left)} images of {city.name}, these are left out;"
            f" unpack {_ARCHIVE} beside {_SEQUENCE}"
        )
    return found


def _sequence(name: str, images: dict[int, Path], camera_file: Path, crop: bool) -> DatasetSequence:
    first, last = min(images), max(images)
    folder = images[first].parent
    stem = camera_file.name.removesuffix("_camera.json").rsplit("_", 1)[0]
    files = [images.get(n, folder / f"{stem}_{n:06d}_leftImg8bit.png") for n in range(first, last + 1)]
    camera, notes = fitted(_read_camera(camera_file), files, folder)
    problems = missing_files(files, f"the snippet {name}")
    if len(images) < BEFORE + AFTER + 1 and len(images) == len(files):
        problems.append(f"{files[0]}: the first of only {len(files)} images of 30 in {name}; unpack the snippet again")
    window = None
    if crop:
        window = 0, 0, camera.width, round(_KEPT_ROWS / _HEIGHT * camera.height)
    times = [n / _FPS for n in range(first, last + 1)]
    frames = image_files(folder, files, times, "the numbers of the images / 17", name, camera, window)
    sequence = DatasetSequence(name, frames, camera.cropped(*window) if window else camera, None, tuple(problems))
    sequence.numbers, sequence.notes = range(first, last + 1), tuple(notes)
    return sequence


def _read_camera(path: Path) -> Camera:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["intrinsic"]
        fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "u0", "v0"))
        return Camera(fx, fy, cx, cy, _WIDTH, _HEIGHT)
    except (OSError, ValueError, KeyError, TypeError):
        raise TrianflowError(f"{path}: no intrinsic with fx, fy, u0 and v0; unpack it again from {_ARCHIVE}") from None
