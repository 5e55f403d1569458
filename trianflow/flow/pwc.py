"""PWC-Net in the light variant of TrianFlow: feature pyramid, warping, cost volumes, coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from trianflow.flow.correlation import RADIUS, correlation
from trianflow.flow.interface import FlowPair
from trianflow.geometry.warping import flow_targets, sample

_CHANNELS = (16, 32, 64, 96, 128, 196)  # of the pyramid's levels 1 (half the image) to 6
_ESTIMATOR = (128, 128, 96, 64, 32)
_CONTEXT = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))  # channels and dilation
_COARSEST, _FINEST = 6, 2
_SLOPE = 0.1  # of the leaky ReLU
_MULTIPLE = 2**_COARSEST
# Share of the usual weights with which flow is read out at first: what a level adds is doubled by each level after it,
# and flows of tens of pixels would leave the image, where no photometric loss brings them back from.
_FIRST_FLOW = 0.1


def _conv(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation)
    return nn.Sequential(conv, nn.LeakyReLU(_SLOPE, inplace=True))


def _initialise(module: nn.Module) -> None:
    """Keep the variance through leaky layers; torch's default loses half of it in each, and the flow stays at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class FeaturePyramid(nn.Module):
    """Features of one image at 1/2 to 1/64 of its size. Keys are those of the published checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for level, width in enumerate(_CHANNELS):
            self.add_module(f"conv{2 * level + 1}", _conv(channels, width, stride=2))
            self.add_module(f"conv{2 * level + 2}", _conv(width, width))
            channels = width
        _initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of levels 1 to 6 of an image `(B, 3, H, W)` in [0, 1]."""
        features: list[Tensor] = []
        x = image
        for level in range(len(_CHANNELS)):
            x = self.get_submodule(f"conv{2 * level + 2}")(self.get_submodule(f"conv{2 * level + 1}")(x))
            features.append(x)
        return features


class FlowDecoder(nn.Module):
    """Features of two images to flow, coarse to fine. Keys are those of the published checkpoints.

    Args:
        normalize_features: bring the features of a pair to zero mean and unit variance before they are compared.
            Eases training from scratch; off for the published checkpoints.
    """

    def __init__(self, normalize_features: bool = False) -> None:
        super().__init__()
        self.normalize_features = normalize_features
        volume = (2 * RADIUS + 1) ** 2
        for level in range(_COARSEST, _FINEST - 1, -1):
            channels = volume if level == _COARSEST else volume + _CHANNELS[level - 1] + 2
            before = 0
            for i, width in enumerate(_ESTIMATOR):
                self.add_module(f"conv{level}_{i}", _conv(channels, width))
                channels, before = width + (before if i else 0), width
            self.add_module(f"predict_flow{level}", nn.Conv2d(channels, 2, 3, padding=1))
        channels = _ESTIMATOR[-1] + 2
        for i, (width, dilation) in enumerate(_CONTEXT, 1):
            self.add_module(f"dc_conv{i}", _conv(channels, width, dilation=dilation))
            channels = width
        self.dc_conv7 = nn.Conv2d(channels, 2, 3, padding=1)
        _initialise(self)
        for name, layer in self.named_children():
            if name.startswith("predict_flow") or name == "dc_conv7":
                layer.get_parameter("weight").data *= _FIRST_FLOW

    def forward(self, features_a: Sequence[Tensor], features_b: Sequence[Tensor]) -> list[Tensor]:
        """Flow a -> b of levels 2 (a quarter of the image) to 5, `(B, 2, h, w)` float32 in pixels of the level."""
        flow: Tensor | None = None
        flows: list[Tensor] = []
        for level in range(_COARSEST, _FINEST - 1, -1):
            f_a, f_b = features_a[level - 1], features_b[level - 1]
            if flow is None:
                known = [self._compare(f_a, f_b)]
            else:
                flow = 2 * interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False)
                known = [self._compare(f_a, sample(f_b.float(), flow_targets(flow))), f_a, flow]
            hidden, wide = self._estimate(level, _joined(known, f_a))
            step = self.get_submodule(f"predict_flow{level}")(wide).float()
            flow = step if flow is None else flow + step
            if level == _FINEST:
                flow = flow + self._context(_joined([flow, hidden], hidden)).float()
            flows.append(flow)
        return flows[:0:-1]

    def _compare(self, f_a: Tensor, f_b: Tensor) -> Tensor:
        f_a, f_b = f_a.float(), f_b.float()
        if self.normalize_features:
            count = 2 * f_a[0].numel()
            mean = (f_a.sum((1, 2, 3), keepdim=True) + f_b.sum((1, 2, 3), keepdim=True)) / count
            f_a, f_b = f_a - mean, f_b - mean
            power = f_a.square().sum((1, 2, 3), keepdim=True) + f_b.square().sum((1, 2, 3), keepdim=True)
            scale = (power / count + 1e-6).rsqrt()
            f_a, f_b = f_a * scale, f_b * scale
        return correlation(f_a, f_b)

    def _estimate(self, level: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden layer of a level's estimator, and what its flow is read from: the last two."""
        before = self.get_submodule(f"conv{level}_0")(x)
        current = self.get_submodule(f"conv{level}_1")(before)
        for i in range(2, len(_ESTIMATOR)):
            both = torch.cat([before, current], 1)
            before, current = current, self.get_submodule(f"conv{level}_{i}")(both)
        return current, torch.cat([before, current], 1)

    def _context(self, x: Tensor) -> Tensor:
        for i in range(1, len(_CONTEXT) + 1):
            x = self.get_submodule(f"dc_conv{i}")(x)
        out: Tensor = self.dc_conv7(x)
        return out


def _joined(maps: list[Tensor], like: Tensor) -> Tensor:
    """Maps along the channels, in the precision and memory layout of the network's own."""
    joined = torch.cat([m.to(like.dtype) for m in maps], 1)
    channels_last = like.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last) if channels_last else joined


class PWCNet(nn.Module):
    """Optical flow of images of any size.

    Args:
        normalize_features: see `FlowDecoder`.

    Source: PWC-Net (Sun et al., CVPR 2018); layers as published with TrianFlow.
    """

    def __init__(self, normalize_features: bool = False) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid()
        self.decoder = FlowDecoder(normalize_features)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of an image `(B, 3, H, W)` in [0, 1], padded to multiples of 64 by its border."""
        height, width = image.shape[-2:]
        right, below = -width % _MULTIPLE, -height % _MULTIPLE
        if right or below:
            image = pad(image, (0, right, 0, below), mode="replicate")
        weight = self.pyramid.get_submodule("conv1")[0].weight  # type: ignore[index]
        features: list[Tensor] = self.pyramid(image.to(weight.dtype))
        return features

    def decode(
        self, features_a: Sequence[Tensor], features_b: Sequence[Tensor], height: int, width: int, levels: int = 4
    ) -> list[Tensor]:
        """Flow a -> b from the features of both.

        Args:
            features_a, features_b: of `encode`.
            height, width: of the images.
            levels: 1 to 4.

        Returns:
            Flow at 1, 1/2, 1/4, 1/8 of the image size (rounded down), `(B, 2, h, w)` float32 in pixels of that size.
        """
        flows = []
        for i, flow in enumerate(self.decoder(features_a, features_b)[:levels]):
            full = 4 * interpolate(flow, scale_factor=4.0, mode="bilinear", align_corners=False)
            flows.append(full[..., : height >> i, : width >> i])
        return flows

    def forward(self, image_a: Tensor, image_b: Tensor, levels: int = 4) -> list[FlowPair]:
        """Flow in both directions.

        Args:
            image_a, image_b: `(B, 3, H, W)` RGB in [0, 1].
            levels: see `decode`.

        Returns:
            `FlowPair`s at 1, 1/2, ... of the image size, finest first.
        """
        if image_a.shape != image_b.shape or image_a.ndim != 4 or image_a.shape[1] != 3:
            raise ValueError(
                f"flow needs two (B, 3, H, W) images, got {tuple(image_a.shape)} and {tuple(image_b.shape)}"
            )
        height, width = image_a.shape[-2:]
        features = self.encode(torch.cat([image_a, image_b]))
        swapped = [f.roll(len(image_a), 0) for f in features]
        flows = self.decode(features, swapped, height, width, levels)
        return [FlowPair(*f.split(len(image_a))) for f in flows]
