"""Which calibration file belongs to the frames of an input, and which camera in it."""

from __future__ import annotations

import re
from pathlib import Path

from trianflow.data.frames import FrameSource

CALIBRATION_NAMES = (
    *(
        "calib.yaml",
        "calib.yml",
        "calib.txt",
        "calibration.yaml",
        "calibration.yml",
        "cam.txt",
        "camera.yaml",
    ),
    *("calib_cam_to_cam.txt", "cameras.txt", "intrinsics.txt", "sensor.yaml"),
)
_LEVELS_ABOVE = 2  # of the folder with the images in which a calibration is looked for
_KITTI_RAW_LEVELS = 3  # date/drive/image_02/data below date/calib_cam_to_cam.txt


def find_calibration(frames: FrameSource) -> Path | None:
    """The calibration file nearest to the frames: in their folder, else up to two folders above."""
    path = frames.path.absolute()
    folder = path.parent if frames.kind == "video" else path
    if frames.kind == "video":
        for name in (
            f"{path.stem}_calib.yaml",
            f"{path.stem}.yaml",
            f"{path.name}.yaml",
            f"{path.stem}_calib.txt",
        ):
            if (folder / name).is_file():
                return folder / name
    for level, place in enumerate([folder, *folder.parents][: _KITTI_RAW_LEVELS + 1]):
        names = CALIBRATION_NAMES if level <= _LEVELS_ABOVE else ("calib_cam_to_cam.txt",)
        for name in names:
            if (place / name).is_file():
                return place / name
    return None


def camera_name(frames: FrameSource) -> str | None:
    """The camera of a calibration file with several, from the folder of the images: image_02/data is P2."""
    if frames.kind == "video":
        return None
    folder = frames.path.absolute()
    name = folder.parent.name if folder.name == "data" else folder.name
    match = re.fullmatch(r"image_0?([0-3])", name)
    if match:
        return f"P{match[1]}"
    return name if re.fullmatch(r"cam\d", name) else None
