"""SSIM against scipy, and the masked losses against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from trianflow.losses.photometric import photometric_losses, ssim

DTYPES = [torch.float32, torch.float64]


def images(seed: int = 0, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (2, 3, 9, 11)) -> list:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, shape)
    y = np.clip(x + rng.normal(0, 0.1, shape), 0, 1)
    mask = rng.uniform(0.2, 1, (shape[0], 1, *shape[2:])) * (rng.uniform(size=(shape[0], 1, *shape[2:])) > 0.3)
    return [torch.from_numpy(a).to(dtype) for a in (x, y, mask)]


def reference_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def box(z: np.ndarray) -> np.ndarray:
        return uniform_filter(z, (0, 0, 3, 3), mode="constant")

    mx, my = box(x), box(y)
    vx, vy, vxy = box(x * x) - mx * mx, box(y * y) - my * my, box(x * y) - mx * my
    return (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ssim_against_scipy(dtype: torch.dtype) -> None:
    x, y, _ = images(dtype=dtype)
    ours = ssim(x, y)
    assert ours.dtype == dtype
    expected = reference_ssim(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(ours, expected, atol=1e-4 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 4)])
def test_ssim_of_tiny_images(size: tuple[int, int]) -> None:
    x, y, _ = images(shape=(1, 1, *size))
    np.testing.assert_allclose(ssim(x, y), reference_ssim(x.numpy(), y.numpy()), atol=1e-12)


def test_ssim_known_values() -> None:
    x, y, _ = images()
    torch.testing.assert_close(ssim(x, x), torch.ones_like(x))
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    # Constant images have no variance, and away from the border their own means.
    flat = ssim(torch.full((1, 1, 5, 5), 0.2).double(), torch.full((1, 1, 5, 5), 0.6).double())
    assert flat[0, 0, 2, 2].item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))


def test_ssim_gradient() -> None:
    x, y, _ = images(1, shape=(1, 2, 4, 5))
    assert torch.autograd.gradcheck(ssim, (x.requires_grad_(), y.requires_grad_()))
    assert torch.autograd.gradgradcheck(ssim, (x[:, :1, :2, :3].detach(), y[:, :1, :2, :3].detach().requires_grad_()))


def test_ssim_keeps_its_digits_under_autocast() -> None:
    x, y, mask = images(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        under = photometric_losses(x, y, mask)[1]
    assert torch.equal(under, photometric_losses(x, y, mask)[1])


def test_losses_as_written() -> None:
    x, y, mask = (a.numpy() for a in images())
    share = mask.mean((1, 2, 3))
    pixel = (np.abs(x - y) * mask).mean((1, 2, 3)) / share
    dissimilarity = np.clip((1 - reference_ssim(x * mask, y * mask)) / 2, 0, 1).mean((1, 2, 3)) / share
    tensors = images()
    both = photometric_losses(*tensors)
    np.testing.assert_allclose(both[0], pixel)
    np.testing.assert_allclose(both[1], dissimilarity)


def test_losses_have_gradients_and_independent_items() -> None:
    x, y, mask = images(2, shape=(2, 2, 4, 5))

    def losses(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return photometric_losses(x, y, mask)

    assert torch.autograd.gradcheck(losses, (x.requires_grad_(), y.requires_grad_()))
    alone = photometric_losses(x[1:], y[1:], mask[1:])
    for all_items, item, same in zip(losses(x, y), alone, losses(x, x)):
        torch.testing.assert_close(all_items[1:], item)
        assert (same == 0).all()


@pytest.mark.parametrize("nonsense", [torch.nan, torch.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_masked_nonsense_and_empty_masks(which: int, nonsense: float) -> None:
    x, y, mask = images(3)
    mask[0] = 0
    expected = photometric_losses(x, y, mask)[which]
    x, y = (torch.where(mask > 0, z, nonsense).requires_grad_() for z in (x, y))
    ours = photometric_losses(x, y, mask)[which]
    assert torch.equal(ours, expected)
    assert ours[0].item() == 0
    assert ours[1].item() > 0
    ours.sum().backward()
    for z in (x, y):
        assert z.grad.isfinite().all()
        assert (z.grad[0] == 0).all()
        assert (z.grad[1] != 0).any()
