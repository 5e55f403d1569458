"""The reader of Cityscapes sequences."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.datasets.cityscapes import open_cityscapes
from trianflow.errors import TrianflowError

CAMERA = {
    "extrinsic": {"baseline": 0.209313, "pitch": 0.038, "roll": 0.0, "x": 1.7, "y": 0.1, "yaw": -0.0195, "z": 1.22},
    "intrinsic": {"fx": 2262.52, "fy": 2265.3017905988554, "u0": 1096.98, "v0": 513.137},
}
BLACK = cv2.imencode(".png", np.zeros((1024, 2048, 3), np.uint8))[1].tobytes()


def write_snippet(root: Path, drive: str, first: int, split: str = "train") -> list[Path]:
    """30 images from a number on, and the camera of the twentieth."""
    city = drive.split("_")[0]
    images, cameras = root / "leftImg8bit_sequence" / split / city, root / "camera" / split / city
    for folder in (images, cameras):
        folder.mkdir(parents=True, exist_ok=True)
    files = [images / f"{drive}_{first + i:06d}_leftImg8bit.png" for i in range(30)]
    for file in files:
        file.write_bytes(BLACK)
    (cameras / f"{drive}_{first + 19:06d}_camera.json").write_text(json.dumps(CAMERA, indent=4))
    return files


def test_official_layout(tmp_path: Path) -> None:
    write_snippet(tmp_path, "aachen_000001", 0)
    # in some cities the numbers run on through a whole drive
    write_snippet(tmp_path, "hanover_000000", 145)
    files = write_snippet(tmp_path, "hanover_000000", 175)
    write_snippet(tmp_path, "munster_000000", 0, split="val")
    grey = np.full((1024, 2048, 3), 9, np.uint8)
    grey[768:] = 200
    cv2.imwrite(str(files[2]), grey)
    found = open_cityscapes(tmp_path)
    assert found.problems == ()
    assert [(s.name, len(s), s.problems) for s in found.sequences] == [
        ("train/aachen/aachen_000001_000019", 30, ()),
        ("train/hanover/hanover_000000_000164", 30, ()),
        ("train/hanover/hanover_000000_000194", 30, ()),
        ("val/munster/munster_000000_000019", 30, ()),
    ]
    sequence = found.sequences[2]
    frame = next(sequence.frames.select([2]))
    assert frame.image[0, 0, 0] == 9
    assert frame.image.shape == (1024, 2048, 3)
    assert (frame.time, sequence.number(2)) == (177 / 17, 177)
    camera = sequence.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (2262.52, 2265.3017905988554, 1096.98, 513.137)
    cropped = open_cityscapes(tmp_path, crop=True).sequences[2]
    image = next(cropped.frames.select([2])).image
    assert image.shape == (768, 2048, 3)
    assert image.max() == 9
    assert (cropped.camera.height, cropped.camera.cy, cropped.camera.fx) == (768, camera.cy, camera.fx)


def test_planted_faults(tmp_path: Path) -> None:
    root = tmp_path / "cityscapes"
    files = write_snippet(root, "aachen_000000", 0)
    files[5].unlink()
    files[6].write_bytes(BLACK[:500])
    cv2.imwrite(str(files[7]), np.zeros((512, 1024, 3), np.uint8))
    (files[0].parent / "aachen.txt").write_text("x")
    short = write_snippet(root, "aachen_000001", 0)
    for file in short[20:]:
        file.unlink()
    write_snippet(root, "bochum_000000", 0)
    (root / "camera" / "train" / "bochum" / "bochum_000000_000019_camera.json").write_text('{"intrinsic": {"fx": 1}}')
    write_snippet(root, "bremen_000000", 0)
    (root / "camera" / "train" / "bremen" / "bremen_000000_000019_camera.json").unlink()
    write_snippet(root, "zurich_000000", 0)
    (root / "leftImg8bit_sequence_trainvaltest.zip").write_bytes(b"PK")
    found = open_cityscapes(tmp_path)  # nested
    names = [s.name for s in found.sequences]
    assert names == [
        *("train/aachen/aachen_000000_000019", "train/aachen/aachen_000001_000019"),
        "train/zurich/zurich_000000_000019",
    ]
    text = "\n".join(found.problems)
    assert found.notes == (
        f"{files[0].parent}: left out aachen.txt: no images of a snippet; remove what does not belong there",
    )
    assert "bochum_000000_000019_camera.json: no intrinsic with fx, fy, u0 and v0; unpack it again" in text
    assert "belongs to 30 images of bremen, these are left out; unpack camera_trainvaltest.zip" in text
    first = found.sequences[0]
    (problem,) = first.problems
    assert f"{files[5]}: missing or empty, but part of the snippet train/aachen" in problem
    frames = list(first.frames.select(range(4, 9)))
    assert [f.image is None for f in frames] == [False, True, True, True, False]
    assert frames[3].problem == "size 1024x512 differs from 2048x1024"
    assert "the first of only 20 images of 30" in found.sequences[1].problems[0]
    assert len(found.sequences[1]) == 20


def test_archives_that_are_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="expected leftImg8bit_sequence/train"):
        open_cityscapes(tmp_path)
    (tmp_path / "leftImg8bit_sequence_trainvaltest.zip").write_bytes(b"PK")
    with pytest.raises(TrianflowError, match="an archive that is not unpacked; unpack it"):
        open_cityscapes(tmp_path)
    write_snippet(tmp_path, "aachen_000000", 0)
    (tmp_path / "camera").rename(tmp_path / "elsewhere")
    with pytest.raises(TrianflowError, match=r"no camera file in .* belongs to 30 images of aachen"):
        open_cityscapes(tmp_path)


def test_a_picture_of_another_size_is_not_cut(tmp_path: Path) -> None:
    files = write_snippet(tmp_path, "aachen_000000", 0)
    cv2.imwrite(str(files[3]), np.zeros((2048, 4096, 3), np.uint8))
    frames = list(open_cityscapes(tmp_path, crop=True).sequences[0].frames.select(range(2, 5)))
    assert [frame.problem for frame in frames] == ["", "size 4096x2048 differs from 2048x1024", ""]
    assert frames[0].image.shape == (768, 2048, 3)
