"""Relative pose of two images by a pose network: images of any size."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trianflow.flow.pwc import PWCNet
from trianflow.inference import (
    DEFAULT_SIZE,
    Device,
    choose_device,
    choose_precision,
    network_input,
    prepared,
    running,
    working_size,
)
from trianflow.pose.posenet import PoseNet, flow_input, image_pair


class PoseEstimator(Protocol):
    """Two images to the motion of the camera between them."""

    def pose(self, image_a: np.ndarray, image_b: np.ndarray, K: Tensor) -> Tensor:
        """The pose T_ba `(4, 4)` float64 of images `(H, W[, 3])` uint8, a before b, with intrinsics K `(3, 3)`.

        Its length is in a unit of the estimator's own that is the same for all images of a camera.
        """
        ...


class LearnedPose:
    """`PoseEstimator` by a network.

    Args:
        network: taking RGB; it is moved and converted in place, as is the next.
        flow: the flow network of a pose network of flow; else None.
        device, trained_size, size, dtype: as of `LearnedFlow`.

    Raises:
        UsageError: there is no such device.
        ValueError: a pose network of flow without its flow network.
    """

    def __init__(
        self,
        network: PoseNet,
        flow: PWCNet | None = None,
        device: Device = "auto",
        trained_size: tuple[int, int] = DEFAULT_SIZE,
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if network.kind == "flow" and flow is None:
            raise ValueError("a pose network of flow needs its flow network")
        self.device = choose_device(device)
        self.dtype = dtype or choose_precision(self.device)
        self._network = prepared(network, self.device, self.dtype)
        self._flow = prepared(flow, self.device, self.dtype) if flow is not None and network.kind == "flow" else None
        self._area = trained_size[0] * trained_size[1]
        self._size = size

    def pose(self, image_a: np.ndarray, image_b: np.ndarray, K: Tensor) -> Tensor:
        """As `PoseEstimator.pose`."""
        height, width = image_a.shape[:2]
        working = self._size or working_size(width, height, self._area)
        with running():
            a, b = (network_input(image, working, self.device, self.dtype) for image in (image_a, image_b))
            if self._flow is None:
                pair = image_pair(a, b)
            else:
                scale = torch.tensor([working[0] / width, working[1] / height, 1.0], dtype=K.dtype)
                flow = self._flow(a, b, 1)[0].flow_ab
                pair = flow_input(flow, (scale[:, None] * K)[None].to(flow)).to(self.dtype)
            T_ba = self._network(pair).T_ba[0].double().cpu()
        # Outside of the inference mode the copy is a tensor like any other.
        return T_ba.clone()
