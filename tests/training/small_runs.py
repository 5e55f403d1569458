"""Tiny training runs: pairs that lie in memory, and small networks around a known flow."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trianflow.config import load_settings
from trianflow.data.pairs.dataset import Augmentation, PairDataset
from trianflow.data.pairs.sources import PairSource, RawPair
from trianflow.flow.interface import FlowPair
from trianflow.systems.config import SystemConfig
from trianflow.systems.trianflow import TrianFlow
from trianflow.training import engine
from trianflow.training.config import TrainConfig
from trianflow.training.loop import Trainer, TrainingOutcome
from trianflow.training.run_folder import LAST

SIDE = 64


class MemoryPairs(PairSource):
    """Pairs that are there already; `visit` is told of every one that is read."""

    def __init__(self, pairs: list[RawPair], visit: Callable[[int], None] | None = None) -> None:
        self.pairs, self.visit, self.notes = pairs, visit, []

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, number: int) -> RawPair:
        if self.visit is not None:
            self.visit(number)
        return self.pairs[number]


def dataset(pairs: list[RawPair], visit: Callable[[int], None] | None = None, jitter: float = 0.2) -> PairDataset:
    """Training pairs: jittered, but not mirrored, so that the known flow is right for them."""
    return PairDataset([MemoryPairs(pairs, visit)], (SIDE, SIDE), 0, Augmentation(0.0, jitter) if jitter else None)


class SmallFlow(nn.Module):
    """The known flow of all pairs and a learned correction, with the looks of the real network."""

    def __init__(self, known: FlowPair) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.normalize_features = True
        self.net = nn.Sequential(nn.Conv2d(6, 8, 3, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 2, 3, 1, 1))
        self.known = known

    def forward(self, image_a: Tensor, image_b: Tensor, levels: int = 4) -> list[FlowPair]:
        there = 0.3 * self.net(torch.cat([image_a, image_b], 1)).float() + self.known.flow_ab
        back = 0.3 * self.net(torch.cat([image_b, image_a], 1)).float() + self.known.flow_ba
        pool = nn.functional.avg_pool2d
        return [FlowPair(*(x if i == 0 else pool(x, 2**i) / 2**i for x in (there, back))) for i in range(levels)]


class SmallDepth(nn.Module):
    """A disparity with batch normalisation on the way."""

    scales = 1

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.net(image).float().sigmoid()]


class SmallSystem(TrianFlow):
    """The system around the small networks."""

    def __init__(self, known: FlowPair, config: SystemConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.flow = SmallFlow(known)  # type: ignore[assignment]
        self.depth = SmallDepth()  # type: ignore[assignment]


def use_small_networks(raw_pairs: list[RawPair], setattr: Callable[[Any, str, Any], None]) -> None:
    first = raw_pairs[0]
    known = FlowPair(*(torch.from_numpy(x)[None] for x in (first.flow_ab, first.__dict__["flow_ba"])))
    setattr(engine, "TrianFlow", partial(SmallSystem, known))


TINY = (
    "data.size=[64,64]",
    "batch_size=2",
    "workers=0",
    "log_every=1",
    "val_every=2",
    "save_every=2",
    "accelerator=cpu",
    "precision=32-true",
    "stages.flow.steps=3",
    "stages.depth.steps=4",
    "stages.joint.steps=3",
    "system.geometry.matches=300",
    "system.geometry.min_points=20",
)


def tiny(*words: str) -> TrainConfig:
    """The settings of a run of ten steps; the data is given beside them."""
    return load_settings(TrainConfig(), None, [*TINY, *words])


def weights_of(out: Path) -> dict[str, Tensor]:
    """All tensors of the last checkpoint."""
    return torch.load(out / LAST, weights_only=True)["system"]


def rows(path: Path) -> list[dict[str, str]]:
    """Those of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def timeless(path: Path) -> list[dict[str, str]]:
    """The rows of a table without the column that depends on the clock, which must grow."""
    table = rows(path)
    seconds = [float(row.pop("seconds")) for row in table]
    assert seconds == sorted(seconds)
    return table


def train(out: Path, raw: list[RawPair], *words: str, visit: Callable[[int], None] | None = None) -> TrainingOutcome:
    """A tiny run; `visit` is told of every pair that is read for training."""
    return Trainer(tiny(*words), out, quiet=True, data=(dataset(raw, visit), dataset(raw[:3], None, 0))).run()


def assert_same_run(a: Path, b: Path) -> None:
    """Two runs left the same, to the last bit."""
    assert (a / "config.yaml").read_text() == (b / "config.yaml").read_text()
    for name in ("metrics.csv", "validation.csv"):
        assert timeless(a / name) == timeless(b / name), name
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    for name in ("flow", "depth", "joint", "flow_best", "depth_best", "joint_best"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (a, b))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
        # the checksum is of the file, in which metadata have no order
        cards = [json.loads((folder / f"{name}.json").read_text()) | {"sha256": None} for folder in (a, b)]
        assert cards[0] == cards[1]
    assert not list(b.glob(".*"))
