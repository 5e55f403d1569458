"""SSIM against scipy, the masked losses against plain numpy, and the pyramid against block means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from trianflow.losses.photometric import image_pyramid, photometric_losses, pixel_loss, ssim, ssim_loss

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
        under = ssim_loss(x, y, mask)
    assert torch.equal(under, ssim_loss(x, y, mask))


def test_losses_as_written() -> None:
    x, y, mask = (a.numpy() for a in images())
    share = mask.mean((1, 2, 3))
    pixel = (np.abs(x - y) * mask).mean((1, 2, 3)) / share
    dissimilarity = np.clip((1 - reference_ssim(x * mask, y * mask)) / 2, 0, 1).mean((1, 2, 3)) / share
    tensors = images()
    np.testing.assert_allclose(pixel_loss(*tensors), pixel)
    np.testing.assert_allclose(ssim_loss(*tensors), dissimilarity)
    both = photometric_losses(*tensors)
    np.testing.assert_allclose(both[0], pixel)
    np.testing.assert_allclose(both[1], dissimilarity)


@pytest.mark.parametrize("loss", [pixel_loss, ssim_loss])
def test_losses_have_gradients_and_independent_items(loss) -> None:
    x, y, mask = images(2, shape=(2, 2, 4, 5))
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, mask), (x.requires_grad_(), y.requires_grad_()))
    torch.testing.assert_close(loss(x, y, mask)[1:], loss(x[1:], y[1:], mask[1:]))
    assert (loss(x, x, mask) == 0).all()


@pytest.mark.parametrize("nonsense", [torch.nan, torch.inf])
@pytest.mark.parametrize("loss", [pixel_loss, ssim_loss])
def test_masked_nonsense_and_empty_masks(loss, nonsense: float) -> None:
    x, y, mask = images(3)
    mask[0] = 0
    expected = loss(x, y, mask)
    x, y = (torch.where(mask > 0, z, nonsense).requires_grad_() for z in (x, y))
    ours = loss(x, y, mask)
    assert torch.equal(ours, expected)
    assert ours[0].item() == 0
    assert ours[1].item() > 0
    ours.sum().backward()
    for z in (x, y):
        assert z.grad.isfinite().all()
        assert (z.grad[0] == 0).all()
        assert (z.grad[1] != 0).any()


def test_image_pyramid() -> None:
    image = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    full, half, quarter = image_pyramid(image, 3)
    assert full is image
    torch.testing.assert_close(half, image.reshape(2, 3, 4, 2, 6, 2).mean((3, 5)))
    torch.testing.assert_close(quarter, image.reshape(2, 3, 2, 4, 3, 4).mean((3, 5)))
    assert [tuple(x.shape[2:]) for x in image_pyramid(torch.rand(1, 1, 5, 3), 4)] == [(5, 3), (2, 1), (1, 1), (1, 1)]
