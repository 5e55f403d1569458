"""A rendered pair as a batch, and networks that know the truth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.synthetic import RenderedPair
from trianflow.flow.interface import FlowPair


def batch_of(pair: RenderedPair, items: slice | list[int] = slice(None)) -> PairBatch:
    """Some of the pairs as a training step gets them."""
    a, b = pair.image_a[items], pair.image_b[items]
    truth = PairTruth(pair.flow_ab[items], pair.visible_a[items], pair.depth_a[items], pair.T_ba[items])
    return PairBatch(a, b, a, b, pair.K[items], truth, torch.arange(len(a)))


class KnownFlow(nn.Module):
    """A flow network that answers what it was told of the first pairs, plus a correction that it may learn."""

    def __init__(self, flow_ab: Tensor, flow_ba: Tensor) -> None:
        super().__init__()
        self.correction = nn.Parameter(torch.zeros(2, 1, 1))
        self.known = FlowPair(flow_ab, flow_ba)

    def forward(self, image_a: Tensor, image_b: Tensor, levels: int = 4) -> list[FlowPair]:
        ab, ba = (x[: len(image_a)] + self.correction for x in (self.known.flow_ab, self.known.flow_ba))
        pool = torch.nn.functional.avg_pool2d
        return [FlowPair(*(x if i == 0 else pool(x, 2**i) / 2**i for x in (ab, ba))) for i in range(levels)]


class KnownDepth(nn.Module):
    """A depth network that answers the disparity of known depths, those of images a before those of images b."""

    def __init__(self, depth_a: Tensor, depth_b: Tensor, unit: float) -> None:
        super().__init__()
        depth = torch.cat([depth_a, depth_b]).clamp(0.5, 100) * unit
        self.disparity = nn.Parameter((1 / depth - 0.01) / 9.99)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.disparity]
