"""What a training step of any system hands back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.systems.geometry import PairGeometry


@dataclass(frozen=True)
class StepResult:
    """One batch through a system.

    Attributes:
        total: the weighted sum of all terms, to be minimised.
        losses: each term before its weight, mean over the batch, without gradient; named as the weights.
        flow: both directions at full size, or None where no term looks at them.
        disparity_a: `(B, 1, H, W)` in (0, 1), or None.
        geometry: or None.
    """

    total: Tensor
    losses: dict[str, Tensor]
    flow: FlowPair | None
    disparity_a: Tensor | None
    geometry: PairGeometry | None
