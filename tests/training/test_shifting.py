"""The second images moved aside: what is seen, the true flow, and who has a shift."""

from dataclasses import replace

import pytest
import torch

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.geometry.warping import inverse_warp
from trianflow.systems.config import LossWeights
from trianflow.training.config import StageConfig
from trianflow.training.shifting import shift_second

H, W = 24, 40


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    """32 pairs that move by (2, -1) pixels, the inputs brighter than the images."""
    g = torch.Generator().manual_seed(0)
    wide = torch.rand(32, 3, H + 4, W + 4, generator=g)
    a, b = wide[..., 1:-3, 2:-2], wide[..., 2:-2, :-4]
    flow = torch.tensor([2.0, -1.0])[:, None, None].expand(32, 2, H, W)
    visible = torch.ones(32, 1, H, W)
    visible[..., :1, :] = visible[..., -2:] = 0
    truth = PairTruth(flow, visible, torch.ones(32, 1, H, W), torch.eye(4).double().repeat(32, 1, 1))
    return PairBatch(a, b, a + 1, b + 1, torch.eye(3).double().repeat(32, 1, 1), truth, torch.arange(32))


def shifts(batch: PairBatch, moved: PairBatch) -> torch.Tensor:
    """`(B, 2)` by the true flows."""
    assert batch.truth is not None
    assert moved.truth is not None
    assert batch.truth.flow_ab is not None
    assert moved.truth.flow_ab is not None
    return (moved.truth.flow_ab - batch.truth.flow_ab).flatten(2).mean(2)


def test_the_true_flow_leads_to_the_moved_image(batch: PairBatch) -> None:
    moved = shift_second(batch, 0.25, 3)
    truth = moved.truth
    assert truth is not None
    assert truth.flow_ab is not None
    assert truth.visible_a is not None
    for image, target in ((moved.image_b, batch.image_a), (moved.input_b, batch.input_a)):
        there = inverse_warp(image, truth.flow_ab)[0]
        off = ((there - target).abs() * truth.visible_a).amax((1, 2, 3))
        assert float(off.max()) < 1e-5
    assert (truth.visible_a <= batch.truth.visible_a).all()  # type: ignore[union-attr, operator]
    assert float(truth.visible_a.mean()) > 0.6
    assert torch.equal(moved.image_a, batch.image_a)


def test_about_half_of_the_pairs_are_moved_by_up_to_the_most(batch: PairBatch) -> None:
    found = torch.cat([shifts(batch, shift_second(batch, 0.25, seed)) for seed in range(20)])
    share = float((found != 0).any(1).float().mean())
    assert 0.42 < share < 0.55
    assert found.abs().amax(0).tolist() == [10, 6]
    assert torch.equal(found, found.round())
    assert float(found.mean(0).abs().max()) < 0.5


def test_the_seed_tells_all(batch: PairBatch) -> None:
    one, again, other = (shifts(batch, shift_second(batch, 0.25, seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_no_longer_fits_is_left_out(batch: PairBatch) -> None:
    moved = shift_second(replace(batch, labels=torch.zeros(32, 2, H, W).long()), 0.25, 0)
    assert moved.truth is not None
    assert (moved.truth.depth_a, moved.truth.T_ba, moved.labels) == (None, None, None)
    plain = replace(batch, input_a=batch.image_a, input_b=batch.image_b, truth=None)
    moved = shift_second(plain, 0.25, 0)
    assert moved.input_b is moved.image_b
    assert moved.truth is None
    assert shift_second(replace(batch, truth=PairTruth()), 0.25, 0).truth == PairTruth()


def test_a_shift_grows_and_is_for_flow_alone() -> None:
    flow = LossWeights(pixel=1.0)
    stage = StageConfig(train=("flow",), losses=flow, shift=0.1)
    assert [stage.shift_at(way) for way in (0, 0.25, 0.375, 0.5, 1)] == pytest.approx([0, 0, 0.05, 0.1, 0.1])
    with pytest.raises(ValueError, match="for flow alone"):
        StageConfig(train=("flow",), losses=LossWeights(pixel=1.0, epipolar=0.1), shift=0.1)
    with pytest.raises(ValueError, match="for flow alone"):
        StageConfig(train=("depth",), losses=LossWeights(triangulation=1.0), shift=0.1)
