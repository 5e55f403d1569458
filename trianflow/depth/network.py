"""One image to inverse depth: ResNet-18 encoder, decoder with skip connections, sigmoid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, pad

from trianflow.depth.resnet import CHANNELS, ResNet18

_WIDTHS = (256, 128, 64, 32, 16)  # of the decoder at 1/16 ... 1 of the image
_MULTIPLE = 32
_SMALLEST = 64  # so that the coarsest features have two pixels, which reflection needs
_MEAN, _DEVIATION = 0.45, 0.225  # of the input, all channels


class _Encoder(nn.Module):
    def __init__(self, deepest: int) -> None:
        super().__init__()
        self.encoder = ResNet18(deepest=deepest)

    def forward(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.encoder((image - _MEAN) / _DEVIATION)
        return features


class _ReflectBorder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        out = torch.empty(B, C, H + 2, W + 2, dtype=x.dtype, device=x.device, memory_format=layout)
        out[..., 1:-1, 1:-1] = x
        out[..., 0, 1:-1], out[..., -1, 1:-1] = x[..., 1, :], x[..., -2, :]
        out[..., 0], out[..., -1] = out[..., 2], out[..., -3]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        g = gradients[0].clone()
        g[..., 2] += g[..., 0]
        g[..., -3] += g[..., -1]
        g[..., 2, :] += g[..., 0, :]
        g[..., -3, :] += g[..., -1, :]
        return g[..., 1:-1, 1:-1]


def reflect_border(x: Tensor) -> Tensor:
    """A frame of one pixel around maps `(B, C, H, W)`, mirrored about the centres of the border pixels; H, W >= 2.

    As `torch.nn.functional.pad(x, (1, 1, 1, 1), "reflect")`, which is many times slower on channels-last maps.
    """
    out: Tensor = _ReflectBorder.apply(x)
    return out


class _Conv(nn.Module):
    """3x3 convolution that reflects at the border."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(reflect_border(x))
        return out


class LogitHead(_Conv):
    """Features to the logit of disparity, in float32: the steps of bfloat16 would be terraces in the depth."""

    full_precision = True  # see `trianflow.inference.prepared`

    def __init__(self, in_channels: int, channels: int = 1) -> None:
        super().__init__(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.conv.weight.dtype))


class _ConvElu(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _Conv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return elu(self.conv(x), inplace=True)


class _Decoder(nn.Module):
    """Five stages, each: convolution, twice the size, the encoder's features beside it (not in the last), convolution.

    Keeps torch's own initialisation, under which the first disparities are about one half everywhere.
    """

    def __init__(self, scales: int, deepest: int) -> None:
        super().__init__()
        self.upconvs = nn.ModuleList()
        below = deepest
        for width, skip in zip(_WIDTHS, (*CHANNELS[-2::-1], 0)):
            self.upconvs.append(nn.ModuleList([_ConvElu(below, width), _ConvElu(width + skip, width)]))
            below = width
        self.dispconvs = nn.ModuleList(LogitHead(width) for width in _WIDTHS[::-1][:scales])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        skips: list[Tensor | None] = [*features[-2::-1], None]
        logits = []
        x = features[-1]
        for scale, stage, skip in zip(range(len(_WIDTHS) - 1, -1, -1), self.upconvs, skips):
            narrow, join = stage.children()
            x = interpolate(narrow(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = join(x if skip is None else torch.cat([x, skip], 1))
            if scale < len(self.dispconvs):
                logits.append(self.dispconvs[scale](x))
        return logits[::-1]


class DepthNet(nn.Module):
    """Inverse depth of an image of any size. Keys are those of the published checkpoints.

    Args:
        scales: 1 to 4, the number of sizes at which disparity is given.
        deepest: channels of the encoder's last features; with 256 the network has half the weights.

    Source: Monodepth2 (Godard et al., ICCV 2019) with bilinear upsampling, as published with TrianFlow.
    """

    def __init__(self, scales: int = 1, deepest: int = CHANNELS[-1]) -> None:
        super().__init__()
        if not 1 <= scales <= 4:
            raise ValueError(f"a depth network has 1 to 4 scales, not {scales}")
        self.scales, self.deepest = scales, deepest
        self.encoder = _Encoder(deepest)
        self.decoder = _Decoder(scales, deepest)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Disparity at each size, finest first; `disparity_to_depth` makes depth of it.

        Args:
            image: `(B, 3, H, W)` RGB in [0, 1], float32. Sides that are no multiple of 32, or below 64, are continued
                by their border for the computation.

        Returns:
            `(B, 1, h, w)` float32 in (0, 1), with h, w at 1, 1/2, 1/4, 1/8 of the image, rounded down.

        Raises:
            ValueError: another shape.
        """
        return [logit.float().sigmoid() for logit in self.logits(image)]

    def logits(self, image: Tensor) -> list[Tensor]:
        """Disparities before the sigmoid; see `forward`."""
        if image.ndim != 4 or image.shape[1] != 3 or not image.numel():
            raise ValueError(f"the depth network takes images (B, 3, H, W), not {tuple(image.shape)}")
        height, width = image.shape[-2:]
        below, right = (max(side + -side % _MULTIPLE, _SMALLEST) - side for side in (height, width))
        if below or right:
            image = pad(image, (0, right, 0, below), mode="replicate")
        logits: list[Tensor] = self.decoder(self.encoder(image))
        return [logit[..., : max(height >> s, 1), : max(width >> s, 1)] for s, logit in enumerate(logits)]


def disparity_to_depth(disparity: Tensor, nearest: float = 0.1, farthest: float = 100.0) -> Tensor:
    """Depth of the network's disparity.

    Args:
        disparity: in [0, 1], any shape.
        nearest, farthest: depth at disparity 1 and 0.

    Returns:
        Depth in the unit of the two; of the same shape. Inverse depth is linear in the disparity.

    Source: TrianFlow, implementation; Monodepth2.
    """
    return 1 / (1 / farthest + (1 / nearest - 1 / farthest) * disparity)
