"""Datasets by name."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from trianflow.data.datasets.registry import DATASETS, OPTIONS, open_dataset_folder
from trianflow.errors import TrianflowError, UsageError

from .kitti_trees import write_drive, write_odometry


@pytest.mark.parametrize("kind", DATASETS)
def test_every_reader_refuses_what_is_not_its_dataset(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TrianflowError, match="nowhere"):
        open_dataset_folder(kind, tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(TrianflowError, match=tmp_path.name) as caught:
        open_dataset_folder(kind, str(tmp_path))
    assert "\n" not in str(caught.value)


def test_readers_by_name(tmp_path: Path) -> None:
    write_odometry(tmp_path / "odometry", scans=False)
    write_drive(tmp_path / "raw")
    assert len(open_dataset_folder("kitti_odometry", tmp_path / "odometry").sequences) == 1
    assert len(open_dataset_folder("kitti_raw", tmp_path / "raw").sequences) == 2
    with pytest.raises(UsageError, match=r"no dataset is called 'kiti'; there are .*kitti_odometry"):
        open_dataset_folder("kiti", tmp_path)


def test_options_are_those_of_the_readers(tmp_path: Path) -> None:
    for key, kinds in OPTIONS.items():
        for kind, place in DATASETS.items():
            module, function = place.split(".")
            reader = getattr(import_module(f"trianflow.data.datasets.{module}"), function)
            assert (key in signature(reader).parameters) == (kind in kinds), (key, kind)
    write_drive(tmp_path)
    (grey,) = open_dataset_folder("kitti_raw", tmp_path, cameras=[0]).sequences
    assert grey.name.endswith("image_00")
    with pytest.raises(UsageError, match="--depth-scale is for folder, not for kitti_raw"):
        open_dataset_folder("kitti_raw", tmp_path, depth_scale=1000.0)


def test_heavy_packages_wait() -> None:
    code = (
        "import sys, trianflow.data.datasets.registry as r; [__import__('trianflow.data.datasets.' + v.split('.')[0])"
    )
    code += (
        " for v in r.DATASETS.values()]; print(sorted({'h5py', 'scipy.io', 'matplotlib', 'evo'} & set(sys.modules)))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
