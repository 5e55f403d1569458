"""Depth of many images in one `.npy` or `.npz` file, as users of SfMLearner and Monodepth2 keep it."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError, UsageError


@dataclass(frozen=True)
class DepthStack:
    """The arrays of a file as they are stored.

    Attributes:
        images: one an image, not checked.
        names: one an image: those of the archive, or `#0`, `#1` ...
        named: whether the names are of the archive.
    """

    images: Sequence[np.ndarray]
    names: Sequence[str]
    named: bool


def read_stack(path: Path) -> DepthStack:
    """Open a stack; a `.npy` file stays on disk until an image of it is looked at.

    Args:
        path: `.npy` of shape (N, H, W), (N, 1, H, W) or (H, W); `.npz` with one such array, or with an image under
            each name. Arrays of images of several sizes (`dtype=object`, as Monodepth2's gt_depths.npz) are pickled by
            numpy: nothing but arrays is loaded from them.

    Raises:
        UsageError: another suffix.
        TrianflowError: damaged, empty, or something else in it.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise UsageError(f"{path}: a stack of depth images is a .npy or .npz file; else give the folder of the files")
    try:
        stack = _unnamed(_load(path)) if suffix == ".npy" else _load_archive(path)
    except (OSError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise TrianflowError(f"{path}: not a readable stack of depth images ({str(error)[:120]})") from None
    if not len(stack.images):
        raise TrianflowError(f"{path}: no depth image in it")
    return stack


def _unnamed(array: np.ndarray) -> DepthStack:
    if array.dtype != object:
        if array.ndim not in (2, 3, 4):
            raise ValueError(f"an array of shape {array.shape}; expected (N, H, W)")
        array = array[None] if array.ndim == 2 else array
    images: Sequence[np.ndarray] = array  # type: ignore[assignment]
    return DepthStack(images, [f"#{index}" for index in range(len(array))], False)


def _load(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        if _has_objects(file):
            return _load_objects(file)
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _load_archive(path: Path) -> DepthStack:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist(), key=natural_key):
            data = io.BytesIO(archive.read(member))
            objects = _has_objects(data)
            arrays[member.removesuffix(".npy")] = _load_objects(data) if objects else np.load(data, allow_pickle=False)
    if len(arrays) == 1:
        return _unnamed(next(iter(arrays.values())))
    other = next((name for name, array in arrays.items() if array.ndim != 2 or array.dtype == object), None)
    if other is not None:
        raise ValueError(f"{len(arrays)} arrays, and {other} is not one image: expected one stack, or only images")
    return DepthStack(list(arrays.values()), list(arrays), True)


def _has_objects(file: Any) -> bool:
    """Whether an array file holds pickled objects; the file is at its beginning before and after."""
    dtype = _header(file)
    file.seek(0)
    return bool(dtype.hasobject)


def _header(file: Any) -> np.dtype:
    """Read the header of an array file, which leaves it at the data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    dtype: np.dtype = read(file)[2]
    return dtype


def _load_objects(file: Any) -> np.ndarray:
    _header(file)
    array = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(array, np.ndarray):
        raise ValueError("no array in it")
    return array.ravel()


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and refuses everything else, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        """What the file may ask for."""
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
