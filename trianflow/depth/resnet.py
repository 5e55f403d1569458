"""ResNet-18 as a feature extractor, with the tensor names of torchvision."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import relu

from trianflow.checkpoint import fill, read_state_dict

CHANNELS = (64, 64, 128, 256, 512)  # of the features at 1/2, 1/4, 1/8, 1/16, 1/32 of the image


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)), inplace=True)))
        return relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet18(nn.Module):
    """ResNet-18 without its classifier.

    Args:
        channels: of the input; 6 for two images.
        deepest: channels of the last features, in which most of the weights are.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, channels: int = 3, deepest: int = CHANNELS[-1]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, CHANNELS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_Block(CHANNELS[0], CHANNELS[1], 1), _Block(CHANNELS[1], CHANNELS[1], 1))
        self.layer2 = nn.Sequential(_Block(CHANNELS[1], CHANNELS[2], 2), _Block(CHANNELS[2], CHANNELS[2], 1))
        self.layer3 = nn.Sequential(_Block(CHANNELS[2], CHANNELS[3], 2), _Block(CHANNELS[3], CHANNELS[3], 1))
        self.layer4 = nn.Sequential(_Block(CHANNELS[3], deepest, 2), _Block(deepest, deepest, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at five sizes.

        Args:
            x: `(B, channels, H, W)` normalised image.

        Returns:
            64, 64, 128, 256 and `deepest` channels at 1/2 (before the max-pool), 1/4, 1/8, 1/16, 1/32 of the size,
            rounded up.
        """
        features = [relu(self.bn1(self.conv1(x)), inplace=True)]
        x = self.maxpool(features[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features


def load_imagenet_weights(encoder: ResNet18, path: str | Path) -> None:
    """Fill an encoder with torchvision's ResNet-18, from its .pth file; the classifier is left out.

    Raises:
        CheckpointError: tensors are missing, unknown or of another shape; all are named, nothing is changed.
        TrianflowError: the file cannot be read.
    """
    state = {key: value for key, value in read_state_dict(path).items() if not key.startswith("fc.")}
    fill(encoder, state, path)
