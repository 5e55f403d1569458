"""Means over a mask against plain numpy, and what an empty mask or nonsense beside it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trianflow.losses.masking import apply_mask, item_mean, masked_mean, normalized_mean

DTYPES = [torch.float32, torch.float64]


def case(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 6, dtype=dtype, generator=generator)
    mask = torch.rand(3, 1, 5, 6, dtype=dtype, generator=generator)
    return x, torch.where(mask > 0.4, mask, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_mean_is_a_weighted_average(dtype: torch.dtype) -> None:
    x, mask = case(dtype)
    ours = masked_mean(x, mask)
    assert ours.dtype == dtype
    for i in range(3):
        expected = np.average(x[i].numpy(), weights=mask[i].expand(4, 5, 6).numpy())
        assert ours[i].item() == pytest.approx(expected, rel=1e-5)
        assert masked_mean(x[i : i + 1], mask[i : i + 1]).item() == pytest.approx(ours[i].item(), rel=1e-6)
    kept = mask > 0
    assert masked_mean(x, kept)[0].item() == pytest.approx(x[0][:, kept[0, 0]].mean().item(), rel=1e-5)
    torch.testing.assert_close(masked_mean(torch.ones_like(x), mask), torch.ones(3, dtype=dtype))


def test_steps_of_the_masked_mean() -> None:
    x, mask = case()
    torch.testing.assert_close(apply_mask(x, mask), x * mask)
    torch.testing.assert_close(item_mean(x), x.mean((1, 2, 3)))
    torch.testing.assert_close(normalized_mean(x, mask), x.mean((1, 2, 3)) / mask.mean((1, 2, 3)))
    assert item_mean(torch.ones(2, 3, 0, 4)).tolist() == [0.0, 0.0]


def test_gradient() -> None:
    x, mask = case()
    assert torch.autograd.gradcheck(lambda x: masked_mean(x, mask), x.requires_grad_())


@pytest.mark.parametrize("nonsense", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("soft", [True, False])
def test_empty_masks_and_nonsense_beside_them(nonsense: float, soft: bool) -> None:
    x, mask = case()
    mask[1] = 0
    mask = mask if soft else mask > 0
    expected = masked_mean(x, mask)
    spoilt = torch.where(mask > 0, x, nonsense).requires_grad_()
    ours = masked_mean(spoilt, mask)
    assert ours[1].item() == 0
    assert torch.equal(ours, expected)
    ours.sum().backward()
    assert spoilt.grad.isfinite().all()
    assert (spoilt.grad[1] == 0).all()
    assert ((spoilt.grad != 0) == (mask > 0)).all()
