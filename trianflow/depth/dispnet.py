"""One image to inverse depth by the DispNet of SfMLearner: plain convolutions, skip connections, four sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from trianflow.depth.network import LogitHead

_WIDTHS = (32, 64, 128, 256, 512, 512, 512)  # of the encoder at 1/2 ... 1/128 of the image
_KERNELS = (7, 5, 3, 3, 3, 3, 3)
_UP_WIDTHS = (512, 512, 256, 128, 64, 32, 16)  # of the decoder at 1/64 ... 1
_MEAN, _DEVIATION = 0.5, 0.5  # of the input


def initialise(network: nn.Module) -> None:
    """Keep the variance through rectified layers; under torch's default seven of them leave next to nothing of it."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class DispNet(nn.Module):
    """Inverse depth of an image of any size.

    Args:
        scales: 1 to 4, the number of sizes at which disparity is given.

    Source: SfMLearner (Zhou et al., CVPR 2017), figure 4, after Mayer et al., CVPR 2016; heads as in `DepthNet`.
    """

    def __init__(self, scales: int = 1) -> None:
        super().__init__()
        if not 1 <= scales <= 4:
            raise ValueError(f"a depth network has 1 to 4 scales, not {scales}")
        self.scales = scales
        channels, down = 3, []
        for width, kernel in zip(_WIDTHS, _KERNELS):
            halving = nn.Conv2d(channels, width, kernel, 2, kernel // 2)
            down.append(nn.Sequential(halving, nn.ReLU(True), nn.Conv2d(width, width, kernel, 1, kernel // 2)))
            channels = width
        self.down = nn.ModuleList(down)
        up, join = [], []
        for size, width in zip(range(len(_UP_WIDTHS) - 1, -1, -1), _UP_WIDTHS):
            skip = _WIDTHS[size - 1] if size else 0
            coarser = 1 if size + 1 < scales else 0
            up.append(nn.ConvTranspose2d(channels, width, 3, 2, 1, 1))
            join.append(nn.Conv2d(width + skip + coarser, width, 3, 1, 1))
            channels = width
        self.up, self.join = nn.ModuleList(up), nn.ModuleList(join)
        initialise(self)
        self.heads = nn.ModuleList(LogitHead(width) for width in _UP_WIDTHS[: -scales - 1 : -1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Disparity at each size, finest first; `disparity_to_depth` makes depth of it.

        Args:
            image: `(B, 3, H, W)` RGB in [0, 1], H and W at least 2^(scales).

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
        sizes, skips = [image.shape[-2:]], []
        x = (image - _MEAN) / _DEVIATION
        for layer in self.down:
            x = relu(layer(x), inplace=True)
            skips.append(x)
            sizes.append(x.shape[-2:])
        logits: list[Tensor] = []
        for size, up, join in zip(range(len(_UP_WIDTHS) - 1, -1, -1), self.up, self.join):
            height, width = sizes[size]
            parts = [relu(up(x), inplace=True)[..., :height, :width]]
            parts += [skips[size - 1]] if size else []
            if logits:
                coarser = interpolate(logits[-1].sigmoid(), (height, width), mode="bilinear", align_corners=False)
                parts.append(coarser.to(parts[0].dtype))
            x = relu(join(torch.cat(parts, 1)), inplace=True)
            if size < self.scales:
                logits.append(self.heads[size](x))
        height, width = image.shape[-2:]
        return [logit[..., : max(height >> s, 1), : max(width >> s, 1)] for s, logit in enumerate(logits[::-1])]
