"""A camera that slides along a wall, without any odometry: what observers of a run are tested with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from tests.odometry.corridor import CAMERA, CONFIG
from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import Matches
from trianflow.odometry.pair import Seen
from trianflow.odometry.structure import Structure


class Slide:
    """What an observer asks of an odometry, for a camera that slides for ever along a wall of its own relief."""

    STEP, NEAR = 0.1, 4.0
    camera, config = CAMERA, CONFIG
    metric = SimpleNamespace(known=False, factor=1.0, carries=True, wants_metres=False)

    def __init__(self) -> None:
        size = CAMERA.height, CAMERA.width
        shift = torch.full((1, 1, *size), CAMERA.fx * self.STEP / self.NEAR)
        still = torch.zeros_like(shift)
        self._flow = FlowPair(torch.cat([-shift, still], 1), torch.cat([shift, still], 1))
        row, column = np.mgrid[8 : size[0] - 8 : 4, 8 : size[1] - 8 : 4]
        p = torch.from_numpy(np.stack([column, row], -1).reshape(1, -1, 2)).double()
        every = torch.ones(p.shape[:2], dtype=torch.bool)
        p_b = p - torch.tensor([float(shift[0, 0, 0, 0]), 0.0])
        matches = Matches(p, p_b, every.double(), every)
        self._pair = SimpleNamespace(flow=self._flow, matches=matches, view=SimpleNamespace(inlier=every))
        self._prepared = SimpleNamespace(image=np.full((*size, 3), 99, np.uint8), depth=None)
        self.key_poses = np.zeros((0, 4, 4))
        self.seen: Seen | None = None

    def track(self, i: int) -> None:
        T = np.eye(4)
        T[0, 3] = i * self.STEP
        self.key_poses = np.concatenate([self.key_poses, T[None]])
        pair, key = None if i == 0 else self._pair, SimpleNamespace(prepared=self._prepared)
        self.seen = Seen(self._prepared, key, pair, True, i, Structure.empty())  # type: ignore[arg-type]
