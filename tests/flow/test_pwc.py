"""The network against the published implementation's outputs, and its own promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracle_weights import oracle_state
from trianflow.flow.correlation import correlation
from trianflow.flow.pwc import PWCNet


def read(shared_data: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared_data / "oracle" / f"{name}.npz") as arrays:
        return {k: torch.from_numpy(v) / 255 if k.endswith("_u8") else torch.from_numpy(v) for k, v in arrays.items()}


def published() -> PWCNet:
    net = PWCNet()
    for part, name in ((net.pyramid, "fpyramid"), (net.decoder, "pwc")):
        part.load_state_dict(oracle_state({k: tuple(v.shape) for k, v in part.state_dict().items()}, name))
    return net.eval()


def test_01_correlation(shared_data: Path) -> None:
    o = read(shared_data, "01_correlation")
    f_a, f_b = o["f1"].requires_grad_(), o["f2"].requires_grad_()
    volume = correlation(f_a, f_b)
    torch.testing.assert_close(volume, o["corr"], rtol=1e-5, atol=1e-6)
    (volume * o["upstream"]).sum().backward()
    torch.testing.assert_close(f_a.grad, o["grad_f1"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(f_b.grad, o["grad_f2"], rtol=1e-5, atol=1e-6)


def test_03_feature_pyramid(shared_data: Path) -> None:
    o = read(shared_data, "03_feature_pyramid")
    for level, features in enumerate(published().pyramid(o["img_u8"]), 1):
        torch.testing.assert_close(features, o[f"level{level}"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_04_flow_of_published_weights(shared_data: Path) -> None:
    o = read(shared_data, "04_pwc_forward")
    net = published()
    features = [net.pyramid(o[f"img{i}_u8"])[-1] for i in (1, 2)]
    torch.testing.assert_close(correlation(*features), o["corr6"], rtol=1e-4, atol=1e-4)
    for level, pair in enumerate(net(o["img1_u8"], o["img2_u8"])):
        torch.testing.assert_close(pair.flow_ab, o[f"fwd_flow_s{level}"], rtol=0, atol=1e-4)
        torch.testing.assert_close(pair.flow_ba, o[f"bwd_flow_s{level}"], rtol=0, atol=1e-4)


def test_04b_gradient_of_published_weights(shared_data: Path) -> None:
    o = read(shared_data, "04b_pwc_grad")
    images = [o[f"img{i}_u8"].requires_grad_() for i in (1, 2)]
    flows = [pair.flow_ab for pair in published()(*images)]
    for level, flow in enumerate(flows):
        torch.testing.assert_close(flow, o[f"flow_s{level}"], rtol=0, atol=1e-4)
    sum((flow * o[f"upstream_s{level}"]).sum() for level, flow in enumerate(flows)).backward()
    for i, image in enumerate(images, 1):
        expected = o[f"grad_img{i}"]
        torch.testing.assert_close(image.grad, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("radius", [1, 2, 3, 4])
def test_gradient_of_the_cost_volume(radius: int) -> None:
    g = torch.Generator().manual_seed(radius)
    f_a, f_b = (torch.randn(2, 2, 2, 3, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b, radius), (f_a, f_b))


def test_cost_volume_by_hand() -> None:
    g = torch.Generator().manual_seed(0)
    f_a, f_b = (torch.randn(2, 3, 4, 6, generator=g, dtype=torch.float64) for _ in range(2))
    volume = correlation(f_a, f_b, 2)
    assert volume.shape == (2, 25, 4, 6)
    for k, (dy, dx) in enumerate((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)):
        for y in range(4):
            for x in range(6):
                inside = 0 <= y + dy < 4 and 0 <= x + dx < 6
                expected = (f_a[:, :, y, x] * f_b[:, :, y + dy, x + dx]).mean(1) if inside else torch.zeros(2).double()
                torch.testing.assert_close(volume[:, k, y, x], expected)


def test_cost_volume_of_each_item_and_layout() -> None:
    g = torch.Generator().manual_seed(0)
    f_a, f_b = (torch.randn(3, 4, 5, 7, generator=g) for _ in range(2))
    volume = correlation(f_a, f_b)
    for i in range(3):
        assert torch.equal(correlation(f_a[i : i + 1], f_b[i : i + 1])[0], volume[i])
    last = [f.contiguous(memory_format=torch.channels_last) for f in (f_a, f_b)]
    torch.testing.assert_close(correlation(*last), volume)
    with pytest.raises(ValueError, match=r"two .B, C, H, W. maps"):
        correlation(f_a, f_b[..., 1:])


def seeded(normalize_features: bool = True) -> PWCNet:
    torch.manual_seed(0)
    return PWCNet(normalize_features).eval()


def images(batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth random pictures, the second one moved by two pixels."""
    g = torch.Generator().manual_seed(seed)
    rough = torch.rand(batch, 3, height + 4, width + 8, generator=g)
    smooth = torch.nn.functional.avg_pool2d(rough, 3, 1)
    smooth = (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())
    return smooth[..., :height, :width], smooth[..., :height, 2 : width + 2]


@pytest.mark.parametrize(("height", "width"), [(70, 100), (64, 64), (37, 129), (20, 30), (9, 8)])
@torch.no_grad()
def test_padding_does_not_move_the_flow(height: int, width: int) -> None:
    net, (a, b) = seeded(), images(2, height, width)
    pairs = net(a, b)
    assert len(pairs) == 4
    right, below = -width % 64, -height % 64
    padded = [torch.nn.functional.pad(x, (0, right, 0, below), mode="replicate") for x in (a, b)]
    for level, (pair, whole) in enumerate(zip(pairs, net(*padded))):
        h, w = height >> level, width >> level
        for flow, full in ((pair.flow_ab, whole.flow_ab), (pair.flow_ba, whole.flow_ba)):
            assert flow.shape == (2, 2, h, w)
            assert flow.dtype == torch.float32
            assert torch.equal(flow, full[..., :h, :w])


@torch.no_grad()
def test_both_directions_are_two_single_ones() -> None:
    net, (a, b) = seeded(), images(2, 64, 128)
    both = net(a, b)
    f_a, f_b = net.encode(a), net.encode(b)
    for level, pair in enumerate(both):
        torch.testing.assert_close(net.decode(f_a, f_b, 64, 128)[level], pair.flow_ab, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.decode(f_b, f_a, 64, 128)[level], pair.flow_ba, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net(b, a)[level].flow_ab, pair.flow_ba, rtol=1e-4, atol=1e-4)
    assert [len(net(a, b, levels)) for levels in (1, 2, 3)] == [1, 2, 3]


@torch.no_grad()
def test_pairs_do_not_see_each_other() -> None:
    net, (a, b) = seeded(), images(3, 64, 128)
    together = net(a, b)[0]
    for i in range(3):
        alone = net(a[i : i + 1], b[i : i + 1])[0]
        torch.testing.assert_close(alone.flow_ab, together.flow_ab[i : i + 1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.flow_ba, together.flow_ba[i : i + 1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_flow_is_in_pixels_of_its_level() -> None:
    """Each level but the finest estimates is that of the next coarser one, in finer pixels, plus what its own adds."""
    net, (a, b) = seeded(), images(1, 128, 192)
    for level in range(2, 6):
        for part in (net.decoder.get_submodule(f"predict_flow{level}"), net.decoder.dc_conv7):
            part.weight.zero_()
            part.bias.zero_()
    net.decoder.predict_flow6.weight.zero_()
    net.decoder.predict_flow6.bias.copy_(torch.tensor([0.25, -0.5]))  # pixels of 64
    for level, pair in enumerate(net(a, b)):
        expected = torch.tensor([16.0, -32.0]).view(2, 1, 1) / 2**level
        torch.testing.assert_close(pair.flow_ab, expected.expand_as(pair.flow_ab[0])[None])


@torch.no_grad()
def test_deep_features_keep_their_variance() -> None:
    net, (a, _) = seeded(), images(2, 128, 256)
    spread = [float(f.std() / a.std()) for f in net.encode(a)]
    assert 0.3 < spread[-1] < 6
    for layer in net.pyramid.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    assert float(net.encode(a)[-1].std() / a.std()) < 0.1, "what torch begins with"


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_network_begins_near_zero_flow(seed: int) -> None:
    torch.manual_seed(seed)
    flow = PWCNet(normalize_features=True)(*images(1, 128, 256), 1)[0].flow_ab
    assert 0.05 < float(flow.abs().mean()) < 4, "full-size heads begin with tens of pixels"


@torch.no_grad()
def test_normalized_features_forget_gain_and_offset() -> None:
    g = torch.Generator().manual_seed(0)
    f_a, f_b = (torch.randn(2, 16, 6, 9, generator=g) for _ in range(2))
    decoder = seeded().decoder
    volume = decoder._compare(f_a, f_b)
    torch.testing.assert_close(decoder._compare(7 * f_a + 3, 7 * f_b + 3), volume, rtol=1e-3, atol=1e-4)
    raw = seeded(normalize_features=False).decoder._compare(f_a, f_b)
    torch.testing.assert_close(raw, correlation(f_a, f_b))
    same = decoder._compare(f_a, f_a)[:, 40]
    torch.testing.assert_close(same.mean((1, 2)), torch.ones(2), rtol=1e-3, atol=1e-3)
    assert (decoder._compare(torch.ones(1, 4, 5, 6), torch.ones(1, 4, 5, 6)) == 0).all(), "nothing to compare"


@torch.no_grad()
def test_layout_and_precision_change_little() -> None:
    net, (a, b) = seeded(), images(1, 128, 192)
    reference = net(a, b)[0].flow_ab
    size = reference.square().mean().sqrt()
    assert size > 0.1
    last = seeded().to(memory_format=torch.channels_last)
    for x, y in ((a, b), [i.contiguous(memory_format=torch.channels_last) for i in (a, b)]):
        torch.testing.assert_close(last(x, y)[0].flow_ab, reference, rtol=0, atol=1e-3 * float(size))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = last(a, b)[0].flow_ab
    assert half.dtype == torch.float32
    assert (half - reference).square().mean().sqrt() < 0.15 * size


@pytest.mark.parametrize("shapes", [((1, 3, 64, 64), (1, 3, 64, 65)), ((1, 1, 64, 64),) * 2, ((3, 64, 64),) * 2])
def test_images_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"two .B, 3, H, W. images"):
        PWCNet()(*(torch.zeros(shape) for shape in shapes))
