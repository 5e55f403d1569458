"""What every source of depth from a single image offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class DepthEstimator(Protocol):
    """One image to dense depth."""

    def depth(self, image: np.ndarray) -> np.ndarray:
        """Depth along z of an image `(H, W, 3)` RGB or `(H, W)` grey uint8.

        Returns:
            `(H, W)` float32, positive, in a unit of the estimator's own that is the same for all images of a camera.
        """
        ...
