"""Dense inverse search flow of OpenCV: needs no weights, and is the reference that a learned flow has to beat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair

Preset = Literal["ultrafast", "fast", "medium"]


class DISFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016), both directions side by side on two threads.

    Args:
        preset: OpenCV's speed presets; `medium` refines by variational steps at full resolution.
        coarsest: halvings of the size at which the search begins; by default as many as the image allows.
    """

    def __init__(self, preset: Preset = "medium", coarsest: int | None = None) -> None:
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        if preset not in presets:
            raise ValueError(f"DIS has the presets {', '.join(presets)}, not '{preset}'")
        # An object holds the buffers of its last call, the flow that it began with among them: one for each direction,
        # without and with a start.
        self._methods = [cv2.DISOpticalFlow.create(presets[preset]) for _ in range(4)]
        if coarsest is not None:
            for method in self._methods:
                method.setCoarsestScale(coarsest)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dis")

    def encode(self, image: np.ndarray) -> np.ndarray:
        """The grey image, `(H, W)` uint8."""
        return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def flow(self, a: np.ndarray, b: np.ndarray, start: FlowPair | None = None) -> FlowPair:
        """Flow between two grey images of equal size, from no motion or from a flow that is nearly right.

        Args:
            a, b: `(H, W)` uint8.
            start: flows `(1, 2, H, W)` pixels to begin with.

        Returns:
            Both directions, `(1, 2, H, W)` float32 pixels.

        Raises:
            ValueError: images of two sizes, or a start of another.
        """
        if a.shape != b.shape:
            raise ValueError(f"flow needs images of one size, got {a.shape[::-1]} and {b.shape[::-1]}")
        if start is not None and start.flow_ab.shape != (1, 2, *a.shape):
            raise ValueError(f"the first flow has the shape {tuple(start.flow_ab.shape)}, not {(1, 2, *a.shape)}")
        forward, backward = self._methods[:2] if start is None else self._methods[2:]
        # Handed in of another size than the images, the initial flow is only a place for the result.
        empty = np.empty((1, 1, 2), np.float32)
        first, second = (empty, empty) if start is None else (_array(start.flow_ab), _array(start.flow_ba))
        other_way = self._pool.submit(lambda: backward.calc(b, a, second))
        flow_ab = forward.calc(a, b, first)
        return FlowPair(*(torch.from_numpy(f).permute(2, 0, 1)[None] for f in (flow_ab, other_way.result())))


def _array(flow: Tensor) -> np.ndarray:
    """`(1, 2, H, W)` as `(H, W, 2)`, a copy, as OpenCV writes its result there."""
    return flow[0].permute(1, 2, 0).contiguous().clone().numpy()
