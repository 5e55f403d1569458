"""Motion that the data lack: the second images of some pairs moved aside, for the flow alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from trianflow.data.pairs.batch import PairBatch, PairTruth


def shift_second(batch: PairBatch, most: float, seed: int) -> PairBatch:
    """Move the second image of about half of the pairs by whole pixels, and the true flow with it.

    What was at p in it is at p + d then, as if the camera had turned by another angle; at the borders that it leaves
    its edge is repeated. Nothing else fits any more: depth, poses and labels are left out, and K is of no use.

    Args:
        batch: of pairs.
        most: largest shift, share of width and height, in [0, 0.5].
        seed: of the draws.
    """
    height, width = batch.image_b.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(3, len(batch), generator=generator)
    far = most * torch.tensor([width, height])[:, None]
    shift = ((2 * draws[:2] - 1) * far * (draws[2] < 0.5)).round().long()
    moves = shift.T.tolist()
    image = _moved(batch.image_b, moves)
    seen_by_networks = image if batch.input_b is batch.image_b else _moved(batch.input_b, moves)
    truth = None if batch.truth is None else _truth(batch.truth, shift)
    return replace(batch, image_b=image, input_b=seen_by_networks, truth=truth, labels=None, lengths=None)


def _moved(images: Tensor, moves: list[list[int]]) -> Tensor:
    """Images `(B, 3, H, W)`, each moved by (x, y) pixels."""
    height, width = images.shape[-2:]
    found = []
    for image, (x, y) in zip(images.split(1), moves):
        wide = pad(image, (max(x, 0), max(-x, 0), max(y, 0), max(-y, 0)), mode="replicate")
        top, left = max(-y, 0), max(-x, 0)
        found.append(wide[..., top : top + height, left : left + width])
    return torch.cat(found)


def _truth(truth: PairTruth, shift: Tensor) -> PairTruth:
    """The flow to moved images, and what of it still ends inside; `shift` is `(2, B)` pixels."""
    if truth.flow_ab is None:
        return PairTruth()
    flow = truth.flow_ab + shift.T[..., None, None].to(truth.flow_ab)
    if truth.visible_a is None:
        return PairTruth(flow_ab=flow)
    height, width = flow.shape[-2:]
    x = flow[:, :1] + torch.arange(width).to(flow)
    y = flow[:, 1:] + torch.arange(height).to(flow)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return PairTruth(flow_ab=flow, visible_a=truth.visible_a * inside)
