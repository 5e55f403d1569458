"""Relative pose by a network: of two images (PoseNet), or of the flow between them (PoseNet-Flow)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from trianflow.depth.dispnet import initialise
from trianflow.depth.network import LogitHead
from trianflow.depth.resnet import CHANNELS, ResNet18
from trianflow.geometry.camera import pose_matrix
from trianflow.geometry.sampson import rotation_exp
from trianflow.pose.kinds import PoseEncoder, Rotation

_WIDTHS = (16, 32, 64, 128, 256, 256, 256)  # of the plain encoder, each at half the size of the one before
_KERNELS = (7, 5, 3, 3, 3, 3, 3)
_EXPLAINED_FROM = 5  # levels of the encoder that the masks are decoded from
_MASK_WIDTHS = (256, 128, 64, 32, 16)  # of their decoder, at 1/16 ... 1 of the image
_MASKS = 4  # sizes at most
_STEP = 0.01  # of the read-out: the first poses are close to none (published)
_FLOW_UNIT = 0.1  # tangent of the angle that a flow of one stands for
_MEAN, _DEVIATION = 0.45, 0.225  # of the images


@dataclass(frozen=True)
class PoseEstimate:
    """What a pose network says of a pair.

    Attributes:
        T_ba: `(B, 4, 4)` float32, in the unit of the depth that it was trained beside.
        explained: finest first, `(B, 2, h, w)` in (0, 1): how well each pixel of a, and of b, is explained by the
            other image; empty without that decoder.
    """

    T_ba: Tensor
    explained: list[Tensor]


class PoseNet(nn.Module):
    """Relative pose of a pair.

    Args:
        encoder: `plain` is the seven convolutions of SfMLearner on two images, `flow` the same on optical flow,
            `resnet18` that of Monodepth2 on two images.
        rotation: what the three numbers of the rotation are: a rotation vector, or angles about x, y, z
            (R = R_x R_y R_z); radians.
        explain: predict the masks of SfMLearner as well; with the plain encoder alone.

    Raises:
        ValueError: masks of another encoder.

    Source: SfMLearner (Zhou et al., CVPR 2017); Monodepth2 (Godard et al., ICCV 2019); for flow the published
    baseline of TrianFlow.
    """

    def __init__(
        self, encoder: PoseEncoder = "plain", rotation: Rotation = "axis_angle", explain: bool = False
    ) -> None:
        super().__init__()
        if explain and encoder != "plain":
            raise ValueError(f"explainability masks need the plain pose encoder, not {encoder}")
        self.kind, self.rotation = encoder, rotation
        deep = encoder == "resnet18"
        self.encoder = ResNet18(6) if deep else _PlainEncoder(2 if encoder == "flow" else 6)
        self.head = _PoseHead(*_wide_layers(CHANNELS[-1])) if deep else _PoseHead(_read(_WIDTHS[-1]))
        self.masks = _MaskDecoder() if explain else None

    @property
    def arguments(self) -> dict[str, str | bool]:
        """What it was made with."""
        return {"encoder": self.kind, "rotation": self.rotation, "explain": self.masks is not None}

    def forward(self, pair: Tensor, masks: int = 1) -> PoseEstimate:
        """The pose of a pair.

        Args:
            pair: of `image_pair` or `flow_input`: `(B, 6 or 2, H, W)`.
            masks: sizes at which the masks are given, 1 to 4: 1, 1/2, 1/4, 1/8 of the image, rounded down.
        """
        features = self.encoder(pair)
        with torch.autocast(pair.device.type, enabled=False):
            numbers = _STEP * self.head(features[-1])
            T_ba = pose_matrix(rotation_matrix(numbers[:, :3], self.rotation), numbers[:, 3:])
        explained: list[Tensor] = []
        if self.masks is not None:
            explained = self.masks(features[:_EXPLAINED_FROM], pair.shape[-2], pair.shape[-1], masks)
        return PoseEstimate(T_ba, explained)


def image_pair(image_a: Tensor, image_b: Tensor) -> Tensor:
    """Two images `(B, 3, H, W)` RGB in [0, 1] as pose networks take them: `(B, 6, H, W)`."""
    return (torch.cat([image_a, image_b], 1) - _MEAN) / _DEVIATION


def flow_input(flow_ab: Tensor, K: Tensor) -> Tensor:
    """Flow `(B, 2, H, W)` in pixels as PoseNet-Flow takes it: over the focal lengths, so that the camera may differ."""
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], 1).to(flow_ab)
    return flow_ab / (_FLOW_UNIT * focal[..., None, None])


def rotation_matrix(angles: Tensor, rotation: Rotation) -> Tensor:
    """Three numbers `(B, 3)`, radians, as a rotation `(B, 3, 3)`; see `PoseNet`."""
    if rotation == "axis_angle":
        return rotation_exp(angles)
    x, y, z = (rotation_exp(angles * axis) for axis in torch.eye(3, dtype=angles.dtype, device=angles.device))
    return x @ y @ z


class _PlainEncoder(nn.Module):
    """Seven convolutions with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = []
        for width, kernel in zip(_WIDTHS, _KERNELS):
            layers.append(nn.Conv2d(channels, width, kernel, 2, kernel // 2))
            channels = width
        self.layers = nn.ModuleList(layers)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers:
            x = relu(layer(x), inplace=True)
            features.append(x)
        return features


def _read(width: int) -> nn.Module:
    return nn.Conv2d(width, 6, 1)


def _wide_layers(channels: int, width: int = 256) -> list[nn.Module]:
    """The layers of Monodepth2 from features to the six numbers."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    return [*layers, _read(width)]


class _PoseHead(nn.Sequential):
    """Features to six numbers `(B, 6)`, the mean over the image, in float32."""

    full_precision = True  # see `trianflow.inference.prepared`

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.float()).mean((2, 3))
        return out


class _MaskDecoder(nn.Module):
    """Masks of both images at four sizes, from the fifth level of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        below, ups = _WIDTHS[_EXPLAINED_FROM - 1], []
        for width in _MASK_WIDTHS:
            ups.append(nn.ConvTranspose2d(below, width, 3, 2, 1, 1))
            below = width
        self.ups = nn.ModuleList(ups)
        initialise(self)
        self.heads = nn.ModuleList(LogitHead(width, 2) for width in _MASK_WIDTHS[: -_MASKS - 1 : -1])

    def forward(self, features: list[Tensor], height: int, width: int, masks: int) -> list[Tensor]:
        x, found = features[-1], []
        for size, up in zip(range(len(_MASK_WIDTHS) - 1, -1, -1), self.ups):
            x = relu(up(x), inplace=True)
            if size < masks:
                logit = self.heads[size](x)[..., : max(height >> size, 1), : max(width >> size, 1)]
                found.append(logit.float().sigmoid())
        return found[::-1]
