"""The readers of datasets by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.data.datasets.interface import DatasetContent

# module below `trianflow.data.datasets` and its function, so that only what is opened is imported
DATASETS = {
    "cityscapes": "cityscapes.open_cityscapes",
    "euroc": "euroc.open_euroc",
    "folder": "scenes_folder.open_scenes_folder",
    "kitti_flow": "kitti_flow.open_kitti_flow",
    "kitti_odometry": "kitti_odometry.open_kitti_odometry",
    "kitti_raw": "kitti_raw.open_kitti_raw",
    "make3d": "make3d.open_make3d",
    "nyuv2_labelled": "nyuv2_labelled.open_nyuv2_labelled",
    "nyuv2_raw": "nyuv2_raw.open_nyuv2_raw",
    "seven_scenes": "seven_scenes.open_seven_scenes",
    "tum": "tum.open_tum",
}

# options of the readers, and which have them
OPTIONS = {
    "cameras": ("kitti_odometry", "kitti_raw"),
    "crop": ("cityscapes", "make3d", "nyuv2_labelled", "nyuv2_raw"),
    "depth_scale": ("folder",),
}


def open_dataset_folder(kind: str, root: str | Path, **options: Any) -> DatasetContent:
    """Open a dataset.

    Args:
        kind: one of `DATASETS`.
        root: its folder, unpacked as downloaded; what it must hold is said by the reader.
        options: of `OPTIONS`, for the reader; what is not given has the reader's default.

    Returns:
        Its usable sequences, and what is wrong with others.

    Raises:
        UsageError: no dataset of this name, or an option that its reader does not have.
        TrianflowError: no such folder, or nothing usable in it.
    """
    if kind not in DATASETS:
        raise UsageError(f"no dataset is called {kind!r}; there are {', '.join(sorted(DATASETS))}")
    for key in options:
        if kind not in OPTIONS[key]:
            raise UsageError(f"--{key.replace('_', '-')} is for {', '.join(OPTIONS[key])}, not for {kind}")
    module, function = DATASETS[kind].split(".")
    reader = getattr(import_module(f"trianflow.data.datasets.{module}"), function)
    content: DatasetContent = reader(Path(root).expanduser().resolve(), **options)
    return content
