"""NYU Depth V2, the labelled set: 1449 single images in `nyu_depth_v2_labeled.mat` and their split in `splits.mat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.nyuv2 import COLOUR, CROP_HEIGHT, CROP_LEFT, CROP_TOP, CROP_WIDTH
from trianflow.data.datasets.scanning import content, cut, find_folders, left_out, packed, require_folder
from trianflow.data.frames import Frame, FrameSource
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

LABELLED, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
_SPLIT_KEYS = {"train": "trainNdxs", "test": "testNdxs"}
_EXPECTED = f"{LABELLED} and {_SPLITS} in this folder"
_AGAIN = "download it again"


def open_nyuv2_labelled(root: Path, *, crop: bool = False) -> DatasetContent:
    """Read the labelled images of NYUv2 as the sequences `test` (654 images) and `train` (795).

    The images are single ones, undistorted by their authors: no pairs, no poses, times are numbers. Depth is the
    in-painted `depths`. The camera is the toolbox's colour camera with its centre moved by a pixel, because MATLAB
    counts from 1. Without `splits.mat` there is one sequence `all`, which `problems` says.

    Args:
        root: the `.mat` file, or the folder that holds it, at most two levels above it.
        crop: only rows 45 to 471 and columns 41 to 601 (from 1), where the toolbox has depth everywhere, 561 x 427
            pixels; the camera is that of the window.

    Raises:
        TrianflowError: no such file, truncated, not of MATLAB 7.3, or without images and depths.
    """
    file = _find(root)
    count = _check(file)
    indices, problems = _read_splits(file.with_name(_SPLITS), count)
    window = (CROP_LEFT, CROP_TOP, CROP_WIDTH, CROP_HEIGHT) if crop else None
    sequences = [LabelledImages(name, LabelledFrames(file, chosen, window)) for name, chosen in indices.items()]
    names = [p.name for p in file.parent.iterdir() if p.is_file()] if file != root else []
    strays = left_out(file.parent, {*names} - {LABELLED, _SPLITS}, "no files of the labelled images")
    return content(root, sequences, problems, _EXPECTED, strays)


def read_scenes(file: Path) -> list[str]:
    """The scene from which each image was taken (`kitchen_0004`), in the order of the images.

    Args:
        file: `nyu_depth_v2_labeled.mat`.

    Raises:
        TrianflowError: it cannot be read, or has no names of scenes.
    """
    with _open(file) as mat:
        try:
            return ["".join(chr(c) for c in mat[ref][()].ravel()) for ref in mat["scenes"][()].ravel()]
        except (KeyError, OSError, TypeError, ValueError):
            raise TrianflowError(f"{file}: the names of the scenes cannot be read; {_AGAIN}") from None


def scenes_by_split(root: Path) -> dict[str, list[str]]:
    """The names of the scenes for `train` and for `test`, sorted: a scene with a test image is for testing.

    The raw distribution is split by them: its folders have these names.

    Args:
        root: as of `open_nyuv2_labelled`.

    Raises:
        TrianflowError: the `.mat` file or `splits.mat` is missing or cannot be read.
    """
    file = _find(root)
    scenes = read_scenes(file)
    indices, problems = _read_splits(file.with_name(_SPLITS), len(scenes))
    if problems:
        raise TrianflowError(problems[0])
    test = {scenes[i] for i in indices.get("test", [])}
    return {"train": sorted({scenes[i] for i in indices.get("train", [])} - test), "test": sorted(test)}


class LabelledFrames(FrameSource):
    """Some images of the `.mat` file as frames; their times are their numbers there, from 0.

    Args:
        file: `nyu_depth_v2_labeled.mat`.
        chosen: numbers of the images, from 0, rising.
        window: left, top, width, height of the pixels to take, or None for all.
    """

    kind = "folder"

    def __init__(self, file: Path, chosen: Sequence[int], window: tuple[int, int, int, int] | None = None) -> None:
        super().__init__(file, file.name, start=0, end=None, stride=1)
        self.chosen, self.window, self.total = tuple(chosen), window, len(chosen)
        self.times = [float(number) for number in self.chosen]

    def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
        with _open(self.path) as mat:
            for index in indices:
                if index >= len(self.chosen):
                    return
                number = self.chosen[index]
                frame = Frame(index, self.times[index], None, f"{self.path.name}#{number}")
                try:
                    image = mat["images"][number].transpose(2, 1, 0)  # MATLAB's columns are HDF5's rows
                except OSError as error:
                    yield replace(frame, problem=f"damaged ({str(error)[:80]}); {_AGAIN}")
                else:
                    yield replace(frame, image=cut(np.ascontiguousarray(image), self.window))


class LabelledImages(DatasetSequence):
    """Labelled images with their in-painted depth."""

    consecutive = False

    frames: LabelledFrames

    def __init__(self, name: str, frames: LabelledFrames) -> None:
        camera: Camera = replace(COLOUR, distortion=())
        super().__init__(name, frames, camera.cropped(*frames.window) if frames.window else camera)

    def listed(self, index: int) -> tuple[Path, float]:
        """As of `DatasetSequence`; the file is that of all images, with the number of this one."""
        return Path(f"{self.frames.path}#{self.frames.chosen[index]}"), self.frames.times[index]

    def depth_file(self, index: int) -> Path:
        """As of `DatasetSequence`: that of all images and depths."""
        return self.frames.path

    def depth(self, index: int) -> np.ndarray | None:
        """As of `DatasetSequence`."""
        file, number = self.frames.path, self.frames.chosen[index]
        with _open(file) as mat:
            try:
                depth = mat["depths"][number].T.astype(np.float32)
            except OSError as error:
                raise TrianflowError(f"{file}: depth {number} is damaged ({str(error)[:80]}); {_AGAIN}") from None
        return cut(np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), self.frames.window)


def _find(root: Path) -> Path:
    if root.is_file() and root.suffix == ".mat":
        return root
    require_folder(root, LABELLED)
    folders = find_folders(root, lambda folder: (folder / LABELLED).is_file())
    if not folders:
        content(root, (), packed(root, levels=2), _EXPECTED)
    return folders[0] / LABELLED


def _open(file: Path) -> Any:
    import h5py

    try:
        return h5py.File(file, "r")
    except OSError as error:
        why = str(error)
        if "truncated" in why:
            what = f"truncated (ends after {file.stat().st_size} bytes, the official file has 2.8 GB)"
        elif "signature" in why:
            what = "not a MATLAB 7.3 (HDF5) file"
        else:
            what = why[:100]
        raise TrianflowError(f"{file}: {what}; {_AGAIN}") from None


def _check(file: Path) -> int:
    """The number of images in a file that has what it should."""
    with _open(file) as mat:
        shapes = {key: mat[key].shape for key in ("images", "depths") if key in mat}
    if len(shapes) < 2:
        found = f"only {', '.join(shapes)}" if shapes else "neither"
        raise TrianflowError(f"{file}: no images and depths in it but {found}; take {LABELLED} as downloaded")
    count = shapes["images"][0]
    width, height = COLOUR.width, COLOUR.height
    if shapes["images"] != (count, 3, width, height) or shapes["depths"] != (count, width, height):
        raise TrianflowError(
            f"{file}: images of shape {shapes['images']} and depths of shape {shapes['depths']}, expected"
            f" (N, 3, {width}, {height}) and (N, {width}, {height}) as MATLAB writes them; {_AGAIN}"
        )
    return count


def _read_splits(file: Path, count: int) -> tuple[dict[str, list[int]], list[str]]:
    """Numbers of the images, from 0, by split."""
    from scipy.io import loadmat

    every = {"all": list(range(count))}
    problem = ""
    if not file.is_file():
        return every, [f"{file}: missing, so train and test images are not told apart; download it beside {LABELLED}"]
    try:
        mat = loadmat(file)
        splits = {name: sorted(int(n) - 1 for n in mat[key].ravel()) for name, key in _SPLIT_KEYS.items()}
    except KeyError as error:
        problem = f"it has no {error.args[0]}"
    except Exception as error:  # scipy raises a dozen kinds on a damaged file
        problem = f"not a readable MATLAB 5 file ({str(error)[:60]})"
    else:
        outside = [n + 1 for chosen in splits.values() for n in chosen if not 0 <= n < count]
        if outside:
            problem = f"it names image {outside[0]}, but {LABELLED} has 1 to {count}"
    if problem:
        return every, [f"{file}: {problem}; {_AGAIN}, until then train and test images are not told apart"]
    return {name: chosen for name, chosen in splits.items() if chosen}, []
