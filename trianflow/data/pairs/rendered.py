"""Pairs of the synthetic world, rendered on demand or read from the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from trianflow.data.pairs.cache import Cache
from trianflow.data.pairs.config import SyntheticSource
from trianflow.data.pairs.labels import shared_labels
from trianflow.data.pairs.sources import PairSource, RawPair
from trianflow.data.synthetic import random_pairs
from trianflow.geometry.camera import Camera

_SEEDS = 1_000_003  # between the pairs of two sources
_SAME = 2.0  # grey values: mean difference up to which two renderings come from the same world


def pair_of_record(record: np.ndarray, size: tuple[int, int]) -> RawPair:
    """The pair that a record of a rendered source holds: images of `size`, width and height, and all of their truth."""
    fx, fy, cx, cy = record["camera"].tolist()
    depth = record["depth_a"]
    return RawPair(
        record["images"],
        Camera(fx, fy, cx, cy, *size),
        flow_ab=record["flow_ab"],
        visible_a=record["visible_a"].astype(np.float32),
        depth_a=np.where(np.isfinite(depth), depth, np.float32(np.nan)),
        T_ba=record["T_ba"],
        labels=record["labels"],
    )


class RenderedPairs(PairSource):
    """Random synthetic pairs with exact truth; pair i depends on its source, i and the size alone.

    Images are rounded to 8 bits, as a camera does. The cache holds 21 bytes a pixel of one view, that is 4.5 MB a
    pair of 832 x 256. When it is opened, the first pair is rendered again, so that a cache of another version
    of the synthetic world is rebuilt.

    Args:
        source: number of pairs, seed, kind of scene.
        size: width and height, pixels.
        cache: folder of the cache; None renders every pair each time it is asked for.

    Raises:
        TrianflowError: the cache cannot be written.
    """

    def __init__(self, source: SyntheticSource, size: tuple[int, int], cache: Path | None) -> None:
        self._count, self._seed, self._scene, self._size = source.synthetic, source.seed, source.scene, size
        self.notes: list[str] = []
        self._cache: Cache | None = None
        self._array: np.ndarray | None = None
        if cache is not None:
            facts = {"count": self._count, "seed": self._seed, "size": list(size), "fields": str(self._dtype())}
            identity: list[object] = [self._seed, self._count, *size]
            identity += [self._scene] if self._scene else []
            self._cache = Cache(cache, f"synthetic-{self._seed}", identity, facts)
            if self._cache.read() is None or not self._is_current(self._cache):
                self._cache.write(self._render_all(), self._dtype(), {}, self._count)

    def __len__(self) -> int:
        """The number of pairs."""
        return self._count

    def read(self, number: int) -> RawPair:
        """As `PairSource.read`; all of the truth is known."""
        if self._cache is None:
            record = self._render(number)
        else:
            if self._array is None:
                self._array = self._cache.open()
            record = self._array[number]
        return pair_of_record(record, self._size)

    def _dtype(self) -> np.dtype:
        width, height = self._size
        return np.dtype(
            [
                ("camera", "f8", (4,)),
                ("T_ba", "f8", (4, 4)),
                ("flow_ab", "f4", (2, height, width)),
                ("depth_a", "f4", (1, height, width)),
                ("images", "u1", (2, height, width, 3)),
                ("visible_a", "u1", (1, height, width)),
                ("labels", "i1", (2, height, width)),
            ]
        )

    def _render(self, number: int) -> np.ndarray:
        width, height = self._size
        pair = random_pairs(1, height, width, self._seed * _SEEDS + number, scene=self._scene)
        record = np.zeros((), self._dtype())
        for view, image in enumerate((pair.image_a, pair.image_b)):
            record["images"][view] = image[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        K = pair.K[0]
        record["camera"] = [float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])]
        for name in ("flow_ab", "visible_a", "depth_a", "T_ba"):
            record[name] = getattr(pair, name)[0].numpy()
        record["labels"] = shared_labels(pair)
        return record

    def _render_all(self) -> Iterator[np.ndarray]:
        for number in tqdm(range(self._count), "synthetic pairs", unit=" pairs", disable=None):
            yield self._render(number)

    def _is_current(self, cache: Cache) -> bool:
        """Whether the cached first pair is what this version renders, but for rounding."""
        stored, fresh = cache.open()[0]["images"], self._render(0)["images"]
        return float(np.abs(stored.astype(np.float32) - fresh).mean()) < _SAME

    def __getstate__(self) -> dict[str, Any]:
        """Without the open array."""
        return self.__dict__ | {"_array": None}
