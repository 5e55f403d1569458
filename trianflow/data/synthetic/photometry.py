"""What a real sensor does to the images: exposure and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.data.synthetic.paths import WAVE_DEVIATION, wave


@dataclass(frozen=True)
class Photometry:
    """A frame's gain and offset, and a pixel's noise; the truth knows nothing of them.

    Attributes:
        gain: standard deviation of the logarithm of a frame's exposure gain.
        offset: standard deviation of a frame's additive offset, in units of the full range.
        noise: standard deviation of the pixel noise, in units of the full range.
        period: seconds of one swing of gain and offset in a clip.
    """

    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    period: float = 5.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade `(F, 3, H, W)` images, each on its own; drawn on the CPU, the same on every device."""
        gain, offset = torch.randn(2, len(images), generator=generator)
        return self._expose(images, gain, offset, [generator] * len(images))

    def film(self, images: Tensor, numbers: Sequence[int], fps: float, seed: int) -> Tensor:
        """Degrade frames of a clip, whose exposure drifts smoothly and within bounds.

        Args:
            images: `(F, 3, H, W)` in [0, 1].
            numbers: of the frames in the clip; a frame comes out the same whatever is filmed with it.
            fps: frames a second.
            seed: of the clip.
        """
        g = torch.Generator().manual_seed(seed)
        t = torch.tensor(numbers, dtype=torch.float64) / fps
        gain, offset = (wave(g, t, 1 / self.period) / WAVE_DEVIATION for _ in range(2))
        noise = [torch.Generator().manual_seed(seed * 1_000_003 + number) for number in numbers]
        return self._expose(images, gain, offset, noise)

    def _expose(self, images: Tensor, gain: Tensor, offset: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Images with gain and offset, `(F,)` in standard deviations, and each with noise of its generator."""
        gain, offset = (x.to(images)[:, None, None, None] for x in (gain, offset))
        images = images * (self.gain * gain).exp() + self.offset * offset
        if self.noise:
            grain = torch.stack([torch.randn(images.shape[1:], generator=g) for g in noise])
            images = images.add_(grain.to(images), alpha=self.noise)
        return images.clamp_(0, 1)
