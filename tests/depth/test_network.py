"""The depth network against the published implementation's outputs, and its own promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracle_weights import oracle_state
from trianflow.depth.network import DepthNet, disparity_to_depth, reflect_border


def published(scales: int = 1) -> DepthNet:
    net = DepthNet(scales)
    net.load_state_dict(oracle_state({k: tuple(v.shape) for k, v in net.state_dict().items()}, "depth"))
    return net.eval()


@pytest.fixture(scope="module")
def net() -> DepthNet:
    return published(4)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def read(shared_data: Path) -> dict[str, Tensor]:
    with np.load(shared_data / "oracle" / "05_depth_net.npz") as arrays:
        return {k: torch.from_numpy(v) / 255 if k.endswith("_u8") else torch.from_numpy(v) for k, v in arrays.items()}


@pytest.mark.data
@pytest.mark.parametrize("scales", [1, 4])
def test_keys_are_published(shared_data: Path, scales: int) -> None:
    expected = json.loads((shared_data / "oracle" / "state_keys.json").read_text())[f"depth_scale{scales}"]
    expected = {k: tuple(v) for k, v in expected.items() if not k.startswith("encoder.encoder.fc.")}
    assert {k: tuple(v.shape) for k, v in DepthNet(scales).state_dict().items()} == expected


@pytest.mark.data
@torch.no_grad()
def test_05_one_scale(shared_data: Path) -> None:
    o, net = read(shared_data), published()
    (disparity,) = net(o["img_u8"])
    torch.testing.assert_close(disparity, o["disp_eval"], rtol=0, atol=1e-5)
    torch.testing.assert_close(net.encoder(o["img_u8"])[-1], o["enc4"], rtol=0, atol=1e-4)
    torch.testing.assert_close(net.encoder(o["img_u8"])[0].mean((2, 3)), o["enc0_mean"], rtol=0, atol=1e-4)
    torch.testing.assert_close(disparity_to_depth(disparity), o["depth"], rtol=1e-5, atol=0)
    torch.testing.assert_close(1 / disparity_to_depth(disparity), o["scaled_disp"], rtol=1e-5, atol=0)
    net.train()
    torch.testing.assert_close(net(o["img_u8"])[0], o["disp_train_mode"], rtol=0, atol=1e-4)


@pytest.mark.data
@torch.no_grad()
def test_05_four_scales(shared_data: Path, net: DepthNet) -> None:
    o = read(shared_data)
    for scale, (disparity, logit) in enumerate(zip(net(o["img_u8"]), net.logits(o["img_u8"]), strict=True)):
        torch.testing.assert_close(disparity, o[f"disp4_s{scale}"], rtol=0, atol=1e-5)
        torch.testing.assert_close(logit, o[f"logit_order{3 - scale}"], rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (65, 100), (47, 130), (33, 32), (3, 1)])
def test_any_size_is_the_crop_of_a_padded_image(net: DepthNet, size: tuple[int, int]) -> None:
    height, width = size
    x = image(1, 3, height, width)
    # The border continues to the right and below, here by indices.
    rows = torch.arange(max(64, 32 * -(-height // 32))).clamp_max(height - 1)
    columns = torch.arange(max(64, 32 * -(-width // 32))).clamp_max(width - 1)
    whole = net(x[:, :, rows][..., columns])
    for scale, (ours, expected) in enumerate(zip(net(x), whole, strict=True)):
        assert ours.shape == (1, 1, max(height >> scale, 1), max(width >> scale, 1))
        torch.testing.assert_close(ours, expected[..., : ours.shape[2], : ours.shape[3]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_items_of_a_batch_are_independent(net: DepthNet) -> None:
    x = image(3, 3, 64, 96)
    x[1] = torch.nan
    alone, together = net(x[2:]), net(x)
    torch.testing.assert_close(together[0][2:], alone[0], rtol=0, atol=1e-5)
    assert together[0][1].isnan().all()


@torch.no_grad()
def test_channels_last_and_bfloat16(net: DepthNet) -> None:
    x = image(2, 3, 64, 100)
    expected = net(x)
    last = published(4).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.contiguous(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = last(x)
    for ours, full in zip(half, expected, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - full).abs().max() < 0.05


def test_gradient() -> None:
    """Along a direction in the image, against a difference quotient; and every tensor gets some."""
    net = published(4).double()
    x = image(1, 3, 64, 70).double().requires_grad_()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(x.shape, dtype=x.dtype, generator=generator)

    def total(x: Tensor) -> Tensor:
        return sum(((logit**2).sum() for logit in net.logits(x)), torch.zeros(()))

    total(x).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    step = 1e-7
    with torch.no_grad():
        slope = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    torch.testing.assert_close((x.grad * direction).sum(), slope, rtol=1e-4, atol=0)


def test_initial_disparity_is_neither_0_nor_1() -> None:
    torch.manual_seed(0)
    for disparity in DepthNet(4)(image(2, 3, 64, 96)):
        assert 0.1 < disparity.min() < disparity.max() < 0.9


def test_errors(net: DepthNet) -> None:
    for scales in (0, 5):
        with pytest.raises(ValueError, match="1 to 4 scales"):
            DepthNet(scales)
    for shape in ((3, 64, 64), (1, 1, 64, 64), (0, 3, 64, 64), (1, 3, 0, 64)):
        with pytest.raises(ValueError, match=r"images \(B, 3, H, W\)"):
            net(torch.zeros(shape))


def test_disparity_to_depth() -> None:
    disparity = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    depth = disparity_to_depth(disparity)
    torch.testing.assert_close(depth, torch.tensor([100.0, 2 / 10.01, 0.1], dtype=torch.float64))
    depth = disparity_to_depth(disparity, nearest=2.0, farthest=6.0)
    torch.testing.assert_close(depth, torch.tensor([6.0, 3.0, 2.0], dtype=torch.float64))
    inner = torch.rand(4, dtype=torch.float64).add_(0.1).requires_grad_()
    assert torch.autograd.gradcheck(disparity_to_depth, (inner,))


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (4, 3)])
def test_reflect_border_is_that_of_torch(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.pad(x, (1, 1, 1, 1), "reflect")
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(reflect_border(x.contiguous(memory_format=layout)), expected, rtol=0, atol=0)
    assert torch.autograd.gradcheck(reflect_border, x)
