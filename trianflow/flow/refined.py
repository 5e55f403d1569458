"""A network's flow carried on by dense inverse search: large motions of the one, the precision of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trianflow.flow.dis import DISFlow, Preset
from trianflow.flow.interface import FlowPair
from trianflow.flow.learned import EncodedImage, LearnedFlow

# Halvings of the size at which the search takes over: what it can still mend is some 2^3 times its reach at full size.
_TAKES_OVER = 3


@dataclass(frozen=True)
class EncodedBoth:
    """What both methods keep of an image.

    Attributes:
        learned: of the network.
        grey: `(H, W)` uint8.
    """

    learned: EncodedImage
    grey: np.ndarray


class RefinedFlow:
    """`FlowEstimator`: a network, and dense inverse search that begins with its flow at an eighth of the size.

    Args:
        network: makes the first flow.
        preset: of the search.
    """

    def __init__(self, network: LearnedFlow, preset: Preset = "medium") -> None:
        self.network = network
        self._search = DISFlow(preset, _TAKES_OVER)

    def encode(self, image: np.ndarray) -> EncodedBoth:
        """Features and the grey image of `(H, W, 3)` RGB or `(H, W)` grey uint8."""
        return EncodedBoth(self.network.encode(image), self._search.encode(image))

    def flow(self, a: EncodedBoth, b: EncodedBoth) -> FlowPair:
        """Flow between two images of equal size, in their pixels, float32 on the CPU."""
        return self._search.flow(a.grey, b.grey, self.network.flow(a.learned, b.learned))
