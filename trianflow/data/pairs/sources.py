"""Sources of pairs: recorded frames and synthetic scenes, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from trianflow.geometry.camera import Camera


class UnreadablePair(Exception):
    """Which file of a pair gave no picture and why, in one line."""


@dataclass(frozen=True)
class RawPair:
    """A pair or a triple as a source gives it, before augmentation.

    Attributes:
        images: `(2, h, w, 3)` RGB uint8, a then b, or `(3, h, w, 3)` with the frame before a as the last.
        camera: of both, with width w and height h.
        flow_ab: `(2, h, w)` float32 pixels, or None where unknown; so are the following.
        visible_a: `(1, h, w)` float32, 0 or 1.
        depth_a: `(1, h, w)` float32 metres, NaN where unknown.
        T_ba: `(4, 4)` float64, metres.
        lengths: of the way from a to each of the others, `(1,)` or `(2,)` float32 metres, NaN where unknown.
        labels: `(2, h, w)` whole numbers, the instances of a and b; see `PairBatch`.
    """

    images: np.ndarray
    camera: Camera
    flow_ab: np.ndarray | None = None
    visible_a: np.ndarray | None = None
    depth_a: np.ndarray | None = None
    T_ba: np.ndarray | None = None
    lengths: np.ndarray | None = None
    labels: np.ndarray | None = None


class PairSource(ABC):
    """A numbered collection of pairs; pickles without open files.

    Attributes:
        notes: what the user should know, one line each.
    """

    notes: list[str]

    @abstractmethod
    def __len__(self) -> int:
        """The number of pairs."""

    @abstractmethod
    def read(self, number: int) -> RawPair:
        """The pair of a number from 0.

        Raises:
            UnreadablePair: one of its frames gives no picture.
        """
