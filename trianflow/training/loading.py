"""The pairs of a run as its processes read them: shares of every batch for training, the whole for validation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from trianflow.data.pairs.batch import PairBatch, collate
from trianflow.data.pairs.dataset import PairDataset, open_dataset, worker_init
from trianflow.data.pairs.sampler import StepSampler
from trianflow.training.config import TrainConfig
from trianflow.training.stopping import ignore_signals


def open_pairs(config: TrainConfig, overfit: int | None) -> tuple[PairDataset, PairDataset | None]:
    """Training and validation pairs; for `overfit` the first so many pairs, unchanged, as both."""
    data, seed = config.data, config.seed
    if overfit is not None:
        pairs = open_dataset(data, "train", seed, augment=False).first(overfit)
        return pairs, pairs
    val = open_dataset(data, "val", seed, augment=False) if data.val else None
    return open_dataset(data, "train", seed, augment=True), val


def training_loader(
    pairs: PairDataset, config: TrainConfig, fabric: Fabric, first_step: int, steps: int
) -> DataLoader[PairBatch]:
    """The share of this process in the batches of so many steps from a step on."""
    sampler = StepSampler(
        len(pairs), config.batch_size, config.seed, first_step, fabric.global_rank, fabric.world_size, max(steps, 0)
    )
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=config.workers,
        worker_init_fn=_prepare_worker,
        pin_memory=fabric.device.type == "cuda",
    )


def validation_batches(pairs: PairDataset, limit: int, size: int, problems: list[str]) -> Iterator[PairBatch]:
    """Batches of `size` pairs, at most `limit` pairs in all, evenly spread over the dataset; appends to `problems`.

    Whatever the precision of the networks around it, pairs are rendered in full.
    """
    count = min(limit, len(pairs))
    chosen = [i * len(pairs) // count for i in range(count)]
    for begin in range(0, count, size):
        with torch.autocast("cpu", enabled=False):
            batch = collate([pairs[0, i] for i in chosen[begin : begin + size]])
        problems += batch.problems
        yield batch


def _prepare_worker(worker: int) -> None:
    ignore_signals()
    worker_init(worker)
