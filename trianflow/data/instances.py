"""Instance masks from files of any segmenter, and which instance of one frame is which of the next."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from trianflow.data.decoding import UnreadableImage, decode_raw, read_bytes
from trianflow.data.images import find_images, natural_key
from trianflow.errors import TrianflowError, UsageError

InstanceLayout = Literal["labels", "cityscapes", "kitti"]

_SUFFIXES = (".png", ".npy")
_FIRST_INSTANCE = 1000  # Cityscapes: below are classes without instances
_CLASS = 256  # KITTI: class * 256 + instance, instance 0 where a class has none
_CITYSCAPES_END = "_instanceIds"
_PALETTE, _COLOUR_TYPE = 3, 25  # of a PNG: the type of colour, and where in the file it stands


def read_instances(path: str | Path, layout: InstanceLayout = "labels") -> np.ndarray:
    """The instances of one frame.

    Args:
        path: a PNG with one channel of 8 or 16 bits, or a palette; a `.npy` with labels `(H, W)` of whole numbers or
            masks `(N, H, W)`; or a folder with an image for each instance, zero outside of it (an empty one has none,
            and no size).
        layout: what the numbers mean: `labels`, any but 0 is an instance; `cityscapes`, 1000 and more are;
            `kitti`, those that are no multiples of 256.

    Returns:
        `(H, W)` int32: 0 is no instance, the others are 1, ..., N in the order of their numbers, masks or file names.
        Where masks overlap, the smallest is in front. `(0, 0)` of an empty folder.

    Raises:
        TrianflowError: it cannot be read, or is another kind of file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _stacked(_masks_in(path))
        stored = _array(path) if path.suffix.lower() == ".npy" else _one_channel(read_bytes(path))
    except UnreadableImage as error:
        raise TrianflowError(f"{path}: {error}") from None
    if stored.ndim == 3:
        return _stacked([mask != 0 for mask in stored])
    number = stored.astype(np.int64)
    if layout == "cityscapes":
        number[number < _FIRST_INSTANCE] = 0
    elif layout == "kitti":
        number[number % _CLASS == 0] = 0
    values, place = np.unique(number, return_inverse=True)
    consecutive = np.cumsum(values != 0) * (values != 0)
    return consecutive[place].reshape(number.shape).astype(np.int32)


class InstanceFolder:
    """A folder with the instances of a sequence: a file or folder for every frame, under the frame's name.

    Args:
        folder: where; see `read_instances` for what it may hold.
        layout: as there; of `cityscapes`, the files `*_instanceIds.png` are taken, whose names begin like the frames'.

    Raises:
        UsageError: no such folder.
        TrianflowError: nothing in it that could be instances.
    """

    def __init__(self, folder: str | Path, layout: InstanceLayout = "labels") -> None:
        self.folder, self.layout = Path(folder), layout
        try:
            found = sorted(self.folder.iterdir(), key=natural_key)
        except OSError as error:
            raise UsageError(f"{folder}: no folder of instance masks ({error.strerror})") from None
        found = [p for p in found if not p.name.startswith(".") and (p.is_dir() or p.suffix.lower() in _SUFFIXES)]
        if layout == "cityscapes":
            found = [p for p in found if p.stem.endswith(_CITYSCAPES_END)]
        self._entries = {self._key(p.name if p.is_dir() else p.stem): p for p in found}
        if not self._entries:
            what = "*_instanceIds.png" if layout == "cityscapes" else "a .png, a .npy or a folder of masks"
            raise TrianflowError(f"{folder}: no instance masks; {what} is expected for every frame, under its name")

    def __len__(self) -> int:
        """The number of frames with instances."""
        return len(self._entries)

    def read(self, frame: str) -> np.ndarray:
        """The instances of a frame, by the name of its image; see `read_instances`.

        Raises:
            TrianflowError: there are none of this name, or they cannot be read.
        """
        entry = self._entries.get(self._key(Path(frame).stem))
        if entry is None:
            first = next(iter(self._entries.values())).name
            raise TrianflowError(f"{self.folder}: no instances of the frame {frame} among {len(self)} ({first}, ...)")
        return read_instances(entry, self.layout)

    def _key(self, stem: str) -> str:
        # city, sequence and number of the frame
        return "_".join(stem.split("_")[:3]) if self.layout == "cityscapes" else stem


@dataclass(frozen=True)
class MatchedInstances:
    """The instances of two frames under common numbers.

    Attributes:
        labels_a, labels_b: `(H, W)` int32: 0 is no instance, k from 1 to `count` is the same in both, the largest
            first, -1 is an instance that is not matched.
        count: how many are matched.
        overlap: `(count,)` of each, in [0, 1].
    """

    labels_a: np.ndarray
    labels_b: np.ndarray
    count: int
    overlap: np.ndarray


def match_instances(
    labels_a: np.ndarray, labels_b: np.ndarray, flow_ab: np.ndarray | None = None, least: float = 0.3, most: int = 8
) -> MatchedInstances:
    """Pair the instances of two frames so that they overlap the most in all, once a has moved along the flow.

    Args:
        labels_a, labels_b: `(H, W)` whole numbers; 0 is no instance, negative ones are unknown and stay -1.
        flow_ab: `(H, W, 2)` pixels, x first, not finite where unknown; None leaves a where it is.
        least: intersection over union below which two instances are not the same.
        most: instances that are kept, the largest; the others become -1.

    Raises:
        ValueError: sizes that differ.
    """
    if labels_a.shape != labels_b.shape or (flow_ab is not None and flow_ab.shape[:2] != labels_a.shape):
        flow = "" if flow_ab is None else f", flow of {flow_ab.shape[:2]}"
        raise ValueError(f"instances of {labels_a.shape} and {labels_b.shape}{flow} do not match")
    number_a, number_b = (np.setdiff1d(labels, np.minimum(labels, 0)) for labels in (labels_a, labels_b))
    share = _overlaps(labels_a, labels_b, number_a, number_b, flow_ab)
    row, column = linear_sum_assignment(share, maximize=True)
    good = share[row, column] >= least
    row, column = row[good], column[good]
    order = np.argsort([-np.count_nonzero(labels_a == number_a[i]) for i in row], kind="stable")[:most]
    out_a, out_b = (np.where(labels == 0, 0, -1).astype(np.int32) for labels in (labels_a, labels_b))
    for k, i in enumerate(order, 1):
        out_a[labels_a == number_a[row[i]]] = k
        out_b[labels_b == number_b[column[i]]] = k
    return MatchedInstances(out_a, out_b, len(order), share[row[order], column[order]])


def _overlaps(
    labels_a: np.ndarray, labels_b: np.ndarray, number_a: np.ndarray, number_b: np.ndarray, flow: np.ndarray | None
) -> np.ndarray:
    """Intersection over union of the instances of a, where they land inside, and of b: `(N_a, N_b)`."""
    height, width = labels_a.shape
    row, column = np.nonzero(np.isin(labels_a, number_a))
    label = labels_a[row, column]
    if flow is not None:
        moved = np.round(flow[row, column].astype(np.float64)) + np.stack([column, row], -1)
        inside = ((moved >= 0) & (moved < (width, height))).all(-1)
        label, (column, row) = label[inside], moved[inside].astype(np.int64).T
    landed = labels_b[row, column]
    both = np.zeros((len(number_a), len(number_b)))
    known = np.isin(landed, number_b)
    np.add.at(both, (np.searchsorted(number_a, label[known]), np.searchsorted(number_b, landed[known])), 1)
    area_a = np.bincount(np.searchsorted(number_a, label), minlength=len(number_a))
    area_b = np.array([np.count_nonzero(labels_b == n) for n in number_b])
    return both / np.maximum(area_a[:, None] + area_b - both, 1)


def _one_channel(data: bytes) -> np.ndarray:
    stored = decode_raw(data)
    if data[:4] == b"\x89PNG" and data[_COLOUR_TYPE] == _PALETTE:
        from PIL import Image

        stored = np.asarray(Image.open(BytesIO(data)))
    if stored.ndim != 2 or stored.dtype not in (np.uint8, np.uint16):
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise UnreadableImage(f"{channels} channels of {stored.dtype}; instances are one of 8 or 16 bits, not colours")
    return stored


def _array(path: Path) -> np.ndarray:
    try:
        stored = np.load(BytesIO(read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UnreadableImage(f"not an array of NumPy ({str(error).splitlines()[0][:80]})") from None
    if not isinstance(stored, np.ndarray) or stored.ndim not in (2, 3) or stored.dtype.kind not in "biu":
        kind = f"{stored.dtype} {stored.shape}" if isinstance(stored, np.ndarray) else "several arrays"
        raise UnreadableImage(f"{kind}; labels (H, W) of whole numbers or masks (N, H, W) are expected")
    return stored


def _masks_in(folder: Path) -> list[np.ndarray]:
    images, _ = find_images(p for p in folder.iterdir() if p.is_file())
    masks: list[np.ndarray] = []
    for image in images:
        try:
            mask = _one_channel(read_bytes(image)) != 0
        except UnreadableImage as error:
            raise UnreadableImage(f"{image.name}: {error}") from None
        if masks and mask.shape != masks[0].shape:
            sizes = f"{mask.shape[1]}x{mask.shape[0]}, others {masks[0].shape[1]}x{masks[0].shape[0]}"
            raise UnreadableImage(f"{image.name}: a mask of {sizes}")
        masks.append(mask)
    return masks


def _stacked(masks: list[np.ndarray]) -> np.ndarray:
    """Masks to labels, the smallest in front."""
    if not masks:
        return np.zeros((0, 0), np.int32)
    labels = np.zeros(masks[0].shape, np.int32)
    for k in sorted(range(len(masks)), key=lambda k: -np.count_nonzero(masks[k])):
        labels[masks[k]] = k + 1
    return labels
