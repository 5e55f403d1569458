"""Optical flow of a PWC-Net: images of any size, each encoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.pwc import PWCNet
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


@dataclass(frozen=True)
class EncodedImage:
    """What the network keeps of an image.

    Attributes:
        features: of `PWCNet.encode`, on its device.
        size: width and height of the image.
        working: width and height that it was encoded at.
    """

    features: list[Tensor]
    size: tuple[int, int]
    working: tuple[int, int]


class LearnedFlow:
    """`FlowEstimator` by a network.

    Args:
        network: taking RGB; it is moved and converted in place.
        device: to run on.
        trained_size: width and height; larger images are brought to about this area.
        size: width and height to work at instead, whatever the image has.
        dtype: of the convolutions; by default what the device is fast in.

    Raises:
        UsageError: there is no such device.

    Example:
        >>> flow = LearnedFlow(PWCNet())
        >>> a, b = (flow.encode(np.zeros((90, 120), np.uint8)) for _ in range(2))
        >>> flow.flow(a, b).flow_ab.shape
        torch.Size([1, 2, 90, 120])
    """

    def __init__(
        self,
        network: PWCNet,
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

    def encode(self, image: np.ndarray) -> EncodedImage:
        """The features of an image, `(H, W, 3)` RGB or `(H, W)` grey uint8."""
        height, width = image.shape[:2]
        working = self._size or working_size(width, height, self._area)
        with running():
            features = self._network.encode(network_input(image, working, self.device, self.dtype))
        return EncodedImage(features, (width, height), working)

    def flow(self, a: EncodedImage, b: EncodedImage) -> FlowPair:
        """Flow between two images of equal size, in their pixels, float32 on the CPU."""
        if a.size != b.size:
            raise ValueError(f"flow needs images of one size, got {a.size} and {b.size}")
        (width, height), (w, h) = a.size, a.working
        with running():
            start = [torch.cat(both) for both in zip(a.features, b.features)]
            end = [torch.cat(both) for both in zip(b.features, a.features)]
            flow = self._network.decode(start, end, h, w, levels=1)[0]
            flow = resize_map(flow, height, width).cpu()
        # Outside of the inference mode the product is a tensor like any other.
        both_ways = flow * torch.tensor([width / w, height / h])[:, None, None]
        return FlowPair(both_ways[:1], both_ways[1:])
