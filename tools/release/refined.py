"""The flow of a network, carried on to sub-pixels by a classical last step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.learned import EncodedImage, LearnedFlow

Step = Literal["dis", "variational"]


@dataclass(frozen=True)
class _Encoded:
    learned: EncodedImage
    grey: np.ndarray


class RefinedFlow:
    """`FlowEstimator`: a network whose flow begins OpenCV's.

    Args:
        network: makes the first flow.
        step: `dis` is dense inverse search of preset medium, begun `coarsest` halvings below the full size with the
            network's flow; `variational` its variational refinement alone, at full size.
        coarsest: halvings, 1 and more.
    """

    def __init__(self, network: LearnedFlow, step: Step = "dis", coarsest: int = 2) -> None:
        self._network, self._step = network, step
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setCoarsestScale(coarsest)
        self._variational = cv2.VariationalRefinement.create()

    def encode(self, image: np.ndarray) -> _Encoded:
        """Features and the grey image of `(H, W, 3)` RGB or `(H, W)` grey uint8."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return _Encoded(self._network.encode(image), grey)

    def flow(self, a: _Encoded, b: _Encoded) -> FlowPair:
        """Flow between two images of equal size, in their pixels, float32."""
        first = self._network.flow(a.learned, b.learned)
        return FlowPair(self._refined(a.grey, b.grey, first.flow_ab), self._refined(b.grey, a.grey, first.flow_ba))

    def _refined(self, a: np.ndarray, b: np.ndarray, flow: Tensor) -> Tensor:
        start = np.ascontiguousarray(flow[0].permute(1, 2, 0).numpy())
        if self._step == "dis":
            found = self._dis.calc(a, b, start)
        else:
            u, v = self._variational.calcUV(a, b, *(np.ascontiguousarray(start[..., i]) for i in (0, 1)))
            found = np.stack([u, v], -1)
        return torch.from_numpy(found).permute(2, 0, 1)[None]
