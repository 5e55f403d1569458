"""What a training step is given: pairs of images, or triples, with their camera, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairTruth:
    """What is known of B pairs: None where nothing is for the whole batch, NaN where not for an item or pixel.

    Attributes:
        flow_ab: `(B, 2, H, W)` float32 pixels, x first.
        visible_a: `(B, 1, H, W)` float32: 1 where the surface point is seen in b, 0 where hidden or outside.
        depth_a: `(B, 1, H, W)` float32 metres along z; NaN where unknown and in the sky.
        T_ba: `(B, 4, 4)` float64, camera a to camera b, metres.
    """

    flow_ab: Tensor | None = None
    visible_a: Tensor | None = None
    depth_a: Tensor | None = None
    T_ba: Tensor | None = None


@dataclass(frozen=True)
class PairBatch:
    """B pairs of images.

    Attributes:
        image_a, image_b: `(B, 3, H, W)` float32 RGB in [0, 1], for the losses.
        input_a, input_b: the same with changed brightness and colours, what the networks see; the same tensors
            where nothing was changed.
        K: `(B, 3, 3)` float64, of both images of a pair.
        truth: None where nothing is known.
        index: `(B,)` int64, which pairs of the dataset these are.
        problems: one line for each input that could not be read; another pair stands in its place.
        image_c, input_c: of triples, the frame as far before a as b is after it; None of pairs.
        lengths: `(B, 1)` or of triples `(B, 2)` float32 metres from camera a to camera b, and to camera c; NaN where
            unknown. None where nothing is known.
        labels: `(B, 2, H, W)` int64 instances of a and b: 0 stands still, k from 1 is the same object in both, -1 is an
            object that is not known to be in the other. None where nothing is known.
    """

    image_a: Tensor
    image_b: Tensor
    input_a: Tensor
    input_b: Tensor
    K: Tensor
    truth: PairTruth | None
    index: Tensor
    problems: tuple[str, ...] = ()
    image_c: Tensor | None = None
    input_c: Tensor | None = None
    lengths: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        """The number of pairs B."""
        return len(self.image_a)

    def to(self, device: torch.device | str) -> PairBatch:
        """The batch on a device; the copy does not wait where the memory is pinned."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> PairBatch:
        """The batch in page-locked memory; called by a DataLoader with `pin_memory=True`."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        image_a, image_b = change(self.image_a), change(self.image_b)
        truth = self.truth
        if truth is not None:
            known = {f.name: getattr(truth, f.name) for f in fields(truth)}
            truth = PairTruth(**{name: None if x is None else change(x) for name, x in known.items()})
        image_c = None if self.image_c is None else change(self.image_c)
        input_c = image_c if self.input_c is self.image_c else change(self.input_c)  # type: ignore[arg-type]
        return PairBatch(
            image_a,
            image_b,
            image_a if self.input_a is self.image_a else change(self.input_a),
            image_b if self.input_b is self.image_b else change(self.input_b),
            change(self.K),
            truth,
            change(self.index),
            self.problems,
            image_c,
            input_c,
            None if self.lengths is None else change(self.lengths),
            None if self.labels is None else change(self.labels),
        )


def collate(items: Sequence[PairBatch]) -> PairBatch:
    """One batch of the items of a `PairDataset` (or of smaller batches), in their order."""
    image_a, image_b = (torch.cat([getattr(i, name) for i in items]) for name in ("image_a", "image_b"))
    plain = all(i.input_a is i.image_a and i.input_b is i.image_b for i in items)
    return PairBatch(
        image_a,
        image_b,
        image_a if plain else torch.cat([i.input_a for i in items]),
        image_b if plain else torch.cat([i.input_b for i in items]),
        torch.cat([i.K for i in items]),
        _joined_truth(items),
        torch.cat([i.index for i in items]),
        tuple(dict.fromkeys(line for i in items for line in i.problems)),
        image_c := _joined([i.image_c for i in items]),
        image_c if plain else _joined([i.input_c for i in items]),
        _joined_lengths(items),
        _joined_labels(items),
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Parts behind each other; None where one is missing."""
    known = [x for x in parts if x is not None]
    return torch.cat(known) if len(known) == len(parts) else None


def _joined_lengths(items: Sequence[PairBatch]) -> Tensor | None:
    if all(i.lengths is None for i in items):
        return None
    others = 1 if items[0].image_c is None else 2
    unknown = torch.full((1, others), torch.nan)
    return torch.cat([unknown.expand(len(i), -1) if i.lengths is None else i.lengths for i in items])


def _joined_labels(items: Sequence[PairBatch]) -> Tensor | None:
    """Labels behind each other; in an item that has none, all stands still."""
    if all(i.labels is None for i in items):
        return None
    still = (torch.zeros_like(i.image_a[:, :2], dtype=torch.int64) for i in items)
    return torch.cat([nothing if i.labels is None else i.labels for i, nothing in zip(items, still)])


def _joined_truth(items: Sequence[PairBatch]) -> PairTruth | None:
    joined: dict[str, Tensor] = {}
    for field in fields(PairTruth):
        parts = [None if i.truth is None else getattr(i.truth, field.name) for i in items]
        sample = next((x for x in parts if x is not None), None)
        if sample is not None:
            unknown = torch.full_like(sample[:1], torch.nan)
            filled = [unknown.expand(len(i), *sample.shape[1:]) if x is None else x for i, x in zip(items, parts)]
            joined[field.name] = torch.cat(filled)
    return PairTruth(**joined) if joined else None
