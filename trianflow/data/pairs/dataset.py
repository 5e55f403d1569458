"""The pairs of all sources of a split as one dataset, each item a function of (seed, epoch, index) alone."""

from __future__ import annotations

import glob
import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trianflow.data.pairs.augment import (
    Draw,
    blur_images,
    crop_pair,
    flip_pair,
    grey_images,
    jitter_images,
    resize_pair,
    shadow_images,
)
from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.pairs.config import DataConfig, DriveSource, PathSource, WarpedSource, frames_of
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.data.pairs.recorded import RecordedPairs
from trianflow.data.pairs.rendered import RenderedPairs
from trianflow.data.pairs.sources import PairSource, RawPair, UnreadablePair
from trianflow.data.pairs.warped import WarpedPairs
from trianflow.errors import TrianflowError, UsageError


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pairs are changed.

    Attributes:
        flip: probability of a mirror.
        jitter: strength of `jitter_images`.
        grey: share of pairs without colours.
        zoom: largest magnification, at least 1.
        shadow, blur: share of pairs that the networks see under shadows, and less sharp.
    """

    flip: float
    jitter: float
    grey: float = 0.0
    zoom: float = 1.0
    shadow: float = 0.0
    blur: float = 0.0


class PairDataset(Dataset[PairBatch]):
    """Pairs of several sources behind each other; items are batches of one, for `collate`.

    A pair that cannot be read is replaced by the next one that can, which `PairBatch.index` and `problems` say.
    It pickles for the workers of a DataLoader, which should have `worker_init` and `collate`.

    Args:
        sources: at least one.
        size: width and height of the pairs, pixels; the pictures of the sources may be larger.
        seed: of the augmentation.
        augmentation: None takes the window in the middle and changes nothing else.
        names: of the sources, for the digest.

    Attributes:
        notes: what the user should know of the sources, one line each.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        size: tuple[int, int],
        seed: int,
        augmentation: Augmentation | None = None,
        notes: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> None:
        self._sources, self._size, self._seed = list(sources), size, seed
        self._augmentation = augmentation
        self._ends = list(accumulate(len(source) for source in self._sources))
        self.notes, self._names = tuple(notes), list(names)

    def __len__(self) -> int:
        """The number of pairs of all sources."""
        return self._ends[-1]

    def __getitem__(self, key: int | tuple[int, int]) -> PairBatch:
        """The pair of an (epoch, index), or of an index in epoch 0.

        Raises:
            TrianflowError: not one pair of the dataset can be read.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        problems: dict[str, None] = {}
        for ahead in range(len(self)):
            place = (index + ahead) % len(self)
            try:
                pair = self._read(place)
            except UnreadablePair as problem:
                problems[str(problem)] = None
            else:
                return self._item(pair, Draw.from_key(self._seed, epoch, index), place, tuple(problems))
        raise TrianflowError(f"not one of the {len(self)} pairs can be read, the first: {next(iter(problems))}")

    @property
    def digest(self) -> str:
        """12 hex digits that tell datasets apart: of the names and lengths of the sources, wherever their root lies."""
        return hashlib.sha256(json.dumps([self._names, self._ends]).encode()).hexdigest()[:12]

    def first(self, count: int) -> PairDataset:
        """The first pairs alone."""
        few = copy(self)
        few._ends = [min(end, count) for end in self._ends]
        return few

    def _read(self, index: int) -> RawPair:
        source = bisect_right(self._ends, index)
        return self._sources[source].read(index - (self._ends[source - 1] if source else 0))

    def _item(self, pair: RawPair, draw: Draw, index: int, problems: tuple[str, ...]) -> PairBatch:
        how = self._augmentation
        zoom = how.zoom**draw.zoom if how else 1.0
        width, height = (round(side / zoom) for side in self._size)
        pair = crop_pair(pair, (width, height), *((draw.left, draw.top) if how else (0.5, 0.5)))
        pair = resize_pair(pair, self._size)
        if how and draw.flip < how.flip:
            pair = flip_pair(pair)
        plain = seen = pair.images.astype(np.float32) / np.float32(255)
        if how and how.jitter:
            seen = jitter_images(pair.images, how.jitter, draw.colour)
        if how and draw.grey < how.grey:
            seen = grey_images(seen)
        if how and draw.shadow < how.shadow:
            seen = shadow_images(seen, np.random.default_rng([*draw.key, 1]))
        if how and draw.blur < how.blur:
            seen = blur_images(seen, np.random.default_rng([*draw.key, 2]))
        images = _tensors(plain)
        inputs = images if seen is plain else _tensors(seen)
        known = {name: getattr(pair, name) for name in ("flow_ab", "visible_a", "depth_a", "T_ba")}
        known = {name: _tensor(value)[None] for name, value in known.items() if value is not None}
        return PairBatch(
            images[0],
            images[1],
            inputs[0],
            inputs[1],
            pair.camera.K()[None],
            PairTruth(**known) if known else None,
            torch.tensor([index]),
            problems,
            images[2] if len(images) > 2 else None,
            inputs[2] if len(images) > 2 else None,
            None if pair.lengths is None else _tensor(pair.lengths)[None],
            None if pair.labels is None else _tensor(pair.labels.astype(np.int64))[None],
        )


def open_dataset(config: DataConfig, split: Literal["train", "val"], seed: int, augment: bool) -> PairDataset:
    """Open all sources of a split; builds caches that are missing or stale, with a bar on a terminal.

    Args:
        config: sources and what is done to them.
        split: which sources.
        seed: of the augmentation.
        augment: random windows, mirrors and colours; without, the window is in the middle.

    Raises:
        UsageError: no sources, or one with a path, selection or calibration that cannot be right.
        TrianflowError: a source that cannot be read; both name the source.
    """
    sources: list[PairSource] = []
    notes: list[str] = []
    names: list[str] = []
    cache = None if config.cache is None else Path(config.cache).expanduser()
    for number, listed in enumerate(getattr(config, split)):
        for source in expand_source(listed, config.root) if isinstance(listed, PathSource) else [listed]:
            if isinstance(source, WarpedSource):
                source = source.model_copy(update={"warped": _placed(source.warped, config.root)})
            name = frames_of(source) or "synthetic"
            try:
                if isinstance(source, PathSource):
                    how = (config.size, config.fit, config.min_motion, cache, config.views, config.speeds)
                    sources.append(RecordedPairs(source, *how))
                elif isinstance(source, DriveSource):
                    sources.append(RenderedDrives(source, config.size, config.views, cache))
                elif isinstance(source, WarpedSource):
                    sources.append(WarpedPairs(source, config.size, cache))
                else:
                    sources.append(RenderedPairs(source, config.size, cache))
            except TrianflowError as error:
                words = str(error).removeprefix(f"{name}: ")
                if frames_of(source) and not Path(name).exists():
                    words += "; data.root is the folder from which paths start"
                raise type(error)(f"data.{split}[{number}], {name}: {words}") from error
            notes += [f"data.{split}[{number}], {name}: {note}" for note in sources[-1].notes]
            times = source.times if isinstance(source, PathSource) else 1
            sources += [sources[-1]] * (times - 1)
            names += [_below(name, config.root)] * times
    if not sources:
        raise UsageError(f"the data has no source for {split}: give {split} a list with a path or synthetic")
    changes = Augmentation(config.flip, config.jitter, config.grey, config.zoom, config.shadow, config.blur)
    return PairDataset(sources, config.size, seed, changes if augment else None, notes, names)


def expand_source(source: PathSource, root: str | None) -> list[PathSource]:
    """A source with its paths below `root`; one for each folder where its path is a pattern that matches folders.

    Raises:
        UsageError: `exclude` leaves nothing of what the pattern matches.
    """
    places = {key: getattr(source, key) for key in ("path", "calib", "poses", "depth")}
    placed = {key: _placed(place, root) for key, place in places.items() if place is not None}
    found = [Path(p) for p in sorted(glob.glob(placed["path"]))] if glob.has_magic(placed["path"]) else []
    folders = {folder: f"/{_below(str(folder), root)}/" for folder in found if folder.is_dir()}
    left_out = [f"/{name.strip('/')}/" for name in source.exclude]
    kept = [folder for folder, place in folders.items() if not any(name in place for name in left_out)]
    if folders and not kept:
        raise UsageError(f"{placed['path']}: all of its {len(folders)} folders are excluded")
    paths = [str(folder) for folder in kept] or [placed["path"]]
    return [source.model_copy(update=placed | {"path": path}) for path in paths]


def _placed(path: str, root: str | None) -> str:
    return str(Path(root or ".").expanduser() / Path(path).expanduser())


def _below(path: str, root: str | None) -> str:
    """A path as it is seen from the root; one that does not lie there stays as it is."""
    base = Path(root or ".").expanduser()
    return Path(path).relative_to(base).as_posix() if Path(path).is_relative_to(base) else path


def worker_init(worker: int) -> None:
    """One thread in each worker process of a DataLoader; give it as `worker_init_fn`."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _tensors(images: np.ndarray) -> tuple[Tensor, ...]:
    """`(N, H, W, 3)` to N times `(1, 3, H, W)`."""
    return _tensor(images.transpose(0, 3, 1, 2)).split(1)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))
