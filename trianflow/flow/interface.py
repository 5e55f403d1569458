"""What every flow method offers, learned or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class FlowPair:
    """Dense flow in both directions.

    Attributes:
        flow_ab: `(B, 2, H, W)` float32 pixels, x first: flow_ab(p_a) = p_b - p_a.
        flow_ba: the same from b to a.
    """

    flow_ab: Tensor
    flow_ba: Tensor


class FlowEstimator(Protocol):
    """Two images to dense flow, with what belongs to one image computed once and used in every pair it is part of."""

    def encode(self, image: np.ndarray) -> Any:
        """Whatever the method needs of one image, `(H, W, 3)` RGB or `(H, W)` grey uint8."""
        ...

    def flow(self, a: Any, b: Any) -> FlowPair:
        """Flow between two encoded images of equal size, B = 1. Not re-entrant."""
        ...
