"""Pairs and triples of synthetic drives, rendered on demand or read from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from trianflow.data.pairs.cache import Cache
from trianflow.data.pairs.config import LONGEST_STRIDE, DriveSource
from trianflow.data.pairs.labels import shared_labels
from trianflow.data.pairs.rendered import pair_of_record
from trianflow.data.pairs.sources import PairSource, RawPair
from trianflow.data.synthetic import PathKind, Photometry, camera_path, make_scene, render, render_pairs
from trianflow.geometry.camera import Camera, invert_pose

_SEEDS = 1_000_003  # between the pairs of two sources
_SAME = 2.0  # grey values: mean difference up to which two renderings come from the same world
_FAST = 0.3  # share of the drives at 15 m/s, the others at 8
_PHOTOMETRY = Photometry(0.02, 0.005, 0.01)
_FRAMES = 12  # of a drive, from which the image a is taken; before and behind them it goes on for the longest stride


class RenderedDrives(PairSource):
    """Random synthetic drives with exact truth; item i depends on its source, i, the views and the size alone.

    The image a is frame n of a drive, b frame n + stride and, of triples, c frame n - stride. Another stride sees the
    same images a. Images are rounded to 8 bits. When the cache is opened, the first item is rendered again, so that
    one of another version of the synthetic world is rebuilt.

    Args:
        source: number of items, seed, stride, frame rate, movers, scene.
        size: width and height, pixels.
        views: 2 or 3.
        cache: folder of the cache; None renders every item each time it is asked for.

    Raises:
        TrianflowError: the cache cannot be written.
    """

    def __init__(self, source: DriveSource, size: tuple[int, int], views: int, cache: Path | None) -> None:
        self._source, self._size, self._views = source, size, views
        self.notes: list[str] = []
        self._cache: Cache | None = None
        self._array: np.ndarray | None = None
        if cache is not None:
            identity: list[object] = [source.seed, source.drives, source.stride, source.movers, source.fps, views]
            identity += size if source.scene == "street" else [*size, source.scene]
            self._cache = Cache(cache, f"drives-{source.seed}", identity, {"fields": str(self._dtype())})
            if self._cache.read() is None or not self._is_current(self._cache):
                self._cache.write(self._render_all(), self._dtype(), {}, source.drives)

    def __len__(self) -> int:
        """The number of items."""
        return self._source.drives

    def read(self, number: int) -> RawPair:
        """As `PairSource.read`; all of the truth is known."""
        if self._cache is None:
            record = self._render(number)
        else:
            if self._array is None:
                self._array = self._cache.open()
            record = self._array[number]
        return replace(pair_of_record(record, self._size), lengths=record["lengths"])

    def _dtype(self) -> np.dtype:
        width, height = self._size
        return np.dtype(
            [
                ("camera", "f8", (4,)),
                ("T_ba", "f8", (4, 4)),
                ("lengths", "f4", (self._views - 1,)),
                ("flow_ab", "f4", (2, height, width)),
                ("depth_a", "f4", (1, height, width)),
                ("images", "u1", (self._views, height, width, 3)),
                ("visible_a", "u1", (1, height, width)),
                ("labels", "i1", (2, height, width)),
            ]
        )

    def _render(self, number: int) -> np.ndarray:
        width, height = self._size
        stride = self._source.stride
        seed = self._source.seed * _SEEDS + number
        g = torch.Generator().manual_seed(seed)
        fast, movers, fov, shift = torch.rand(4, generator=g).tolist()
        path: PathKind = "fast" if fast < _FAST else "driving"
        scene = make_scene(self._source.scene, seed, round(movers * self._source.movers), length=80.0)
        T_wc = camera_path(path, scene, _FRAMES + 2 * LONGEST_STRIDE, self._source.fps, seed)
        n = LONGEST_STRIDE + int(shift * _FRAMES)
        frames = torch.tensor([n, n + stride, n - stride][: self._views])
        T_wc, times = T_wc[frames], frames.double() / self._source.fps
        camera = Camera.from_fov(width, height, 65 + 25 * fov)
        pair = render_pairs([scene], T_wc[None, :2], times[None, :2], camera.K()[None], height, width)
        images = [pair.image_a, pair.image_b]
        if self._views > 2:
            images.append(render(scene, T_wc[2:], times[2:], camera).image)
        record = np.zeros((), self._dtype())
        filmed = _PHOTOMETRY(torch.cat(images), g)
        record["images"] = filmed.permute(0, 2, 3, 1).mul(255).round().byte().numpy()
        record["camera"] = [camera.fx, camera.fy, camera.cx, camera.cy]
        record["lengths"] = (invert_pose(T_wc[1:]) @ T_wc[:1])[:, :3, 3].norm(dim=1).numpy()
        for name in ("flow_ab", "visible_a", "depth_a", "T_ba"):
            record[name] = getattr(pair, name)[0].numpy()
        record["labels"] = shared_labels(pair)
        return record

    def _render_all(self) -> Iterator[np.ndarray]:
        for number in tqdm(range(len(self)), "synthetic drives", unit=" pairs", disable=None):
            yield self._render(number)

    def _is_current(self, cache: Cache) -> bool:
        """Whether the cached first item is what this version renders, but for rounding."""
        stored, fresh = cache.open()[0]["images"], self._render(0)["images"]
        return float(np.abs(stored.astype(np.float32) - fresh).mean()) < _SAME

    def __getstate__(self) -> dict[str, Any]:
        """Without the open array."""
        return self.__dict__ | {"_array": None}
