"""Depth of a single image by a network: images of any size."""

from __future__ import annotations

import numpy as np
import torch

from trianflow.depth.dispnet import DispNet
from trianflow.depth.network import DepthNet, disparity_to_depth
from trianflow.inference import (
    DEFAULT_SIZE,
    Device,
    choose_device,
    choose_precision,
    network_input,
    prepared,
    resize_map,
    running,
    working_size,
)


class LearnedDepth:
    """`DepthEstimator` by a network.

    Args:
        network: taking RGB; it is moved and converted in place.
        device, trained_size, size, dtype: as of `LearnedFlow`.

    Raises:
        UsageError: there is no such device.

    Example:
        >>> LearnedDepth(DepthNet()).depth(np.zeros((90, 120), np.uint8)).shape
        (90, 120)
    """

    def __init__(
        self,
        network: DepthNet | DispNet,
        device: Device = "auto",
        trained_size: tuple[int, int] = DEFAULT_SIZE,
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.dtype = dtype or choose_precision(self.device)
        self._network = prepared(network, self.device, self.dtype)
        self._area = trained_size[0] * trained_size[1]
        self._size = size

    def depth(self, image: np.ndarray) -> np.ndarray:
        """Depth along z, `(H, W)` float32 in the network's unit, 0.1 to 100."""
        height, width = image.shape[:2]
        working = self._size or working_size(width, height, self._area)
        with running():
            disparity = self._network(network_input(image, working, self.device, self.dtype))[0]
            depth = disparity_to_depth(resize_map(disparity, height, width))
            return np.asarray(depth[0, 0].cpu().numpy())
