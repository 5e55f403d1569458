"""The network against the published implementation's outputs, and its own promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
