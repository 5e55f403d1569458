"""Procedural, tileable surface textures and their anisotropic, prefiltered look-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SIZE = 256  # texels a side; a power of two
_SHARPNESS = 0.7  # of a pixel's extent is averaged; the interpolation between texels does the rest
_CHUNK = 32768  # samples filtered at once: small enough for the cache
_LEVELS = int(math.log2(SIZE)) - 1  # levels with windows of four texels; the coarsest has four texels a side
_ROWS = 2 * SIZE - 4 + 2 * _LEVELS  # of all levels along v, each with two rows repeated at its end
_WINDOWS = SIZE - 2  # of all levels along u


@dataclass(frozen=True)
class TextureBank:
    """Textures with their rip-maps: every texture averaged over 2^i x 2^j texels for all i and j.

    Along u, a row of `texels` holds a window of four neighbouring texels, every second texel beginning one; along
    v, four such rows follow each other. A level's two taps lie in a window, and so do those of the next coarser
    level, whose texels are means of two: sixteen texels, four rows of the table, filter between two levels along
    both axes, each with its own, so that grazing views stay sharp along one axis.

    Attributes:
        names: one name a texture.
        periods: `(N,)` the metres that one tile usually covers.
        texels: `(N * _ROWS * _WINDOWS, 12)` float32, four texels' red, green and blue reflectance in [0, 1].
    """

    names: tuple[str, ...]
    periods: Tensor
    texels: Tensor

    def index(self, name: str) -> int:
        """The number of the texture called `name`; KeyError names the ones there are."""
        if name not in self.names:
            raise KeyError(f"no texture {name!r} among {', '.join(self.names)}")
        return self.names.index(name)

    @property
    def crops(self) -> int:
        """How many of the textures are the user's pictures."""
        return sum(name.startswith("crop") for name in self.names)

    def sample(self, texture: Tensor, u: Tensor, v: Tensor, width_u: Tensor, width_v: Tensor) -> Tensor:
        """Filtered colour at texture coordinates.

        Args:
            texture: `(N,)` int, texture numbers.
            u, v: `(N,)` float32 in tiles (1.0 is one period, any value; v downwards in the picture).
            width_u, width_v: `(N,)` the extent of one pixel along u and v, in tiles, positive.

        Returns:
            `(3, N)` float32 in [0, 1].
        """
        out = u.new_empty(3, len(u))
        for i in range(0, len(u), _CHUNK):
            part = slice(i, i + _CHUNK)
            self._sample(texture[part], u[part], v[part], width_u[part], width_v[part], out[:, part])
        return out

    def _sample(self, texture: Tensor, u: Tensor, v: Tensor, width_u: Tensor, width_v: Tensor, out: Tensor) -> None:
        level, half, window, weight_u = _window(u, width_u)
        window += SIZE - 2 * half
        level, half, row, weight_v = _window(v, width_v)
        row = row.add_(SIZE).sub_(2 * half).add_(level).mul_(2)
        first = (texture.int() * _ROWS + row.int()) * _WINDOWS + window.int()
        index = first[:, None] + _WINDOWS * torch.arange(4, dtype=torch.int32, device=u.device)
        found = torch.nn.functional.embedding_bag(
            index, self.texels, mode="sum", per_sample_weights=weight_v.T.contiguous()
        )
        for channel in range(3):
            torch.mul(found[:, 4 * channel], weight_u[0], out=out[channel])
            for k in range(1, 4):
                out[channel].addcmul_(found[:, 4 * channel + k], weight_u[k])


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` in full float32, whatever `torch.set_float32_matmul_precision` allows elsewhere."""
    if torch.get_float32_matmul_precision() == "highest":
        return a @ b
    return (a.double() @ b.double()).float()


def _window(x: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four texels that filter at `x` along one axis, both `(N,)` in tiles.

    Returns:
        The level, half its texels a tile, the window's number within the level, all `(N,)` whole numbers in
        float32, and the weights of its texels `(4, N)`.
    """
    level = (width * (_SHARPNESS * SIZE)).clamp_(1, 2**_LEVELS).log2_()
    low = level.floor().clamp_(max=_LEVELS - 1)
    blend = level.sub_(low)
    half = torch.exp2(-low).mul_(SIZE / 2)
    at = (x - x.floor()).mul_(half).sub_(0.5)  # in texels of the coarser level
    window = at.floor()
    fraction = at.sub_(window)
    # the window before the first is the last
    window.addcmul_((-window).relu_(), half)
    weight = x.new_empty(4, len(x))
    coarse = blend * 0.5
    fine = 1 - blend
    torch.mul(coarse, fraction, out=weight[3])
    torch.sub(coarse, weight[3], out=weight[0])
    # in texels of the finer level the place lies between the second's half and the third's
    place = fraction.mul_(2).sub_(0.5)
    beyond = (place - 1).relu_()
    torch.addcmul(weight[3], place.clamp(0, 1).sub_(beyond), fine, out=weight[2])
    weight[3].addcmul_(beyond, fine)
    weight[0].addcmul_(place.neg_().relu_(), fine)
    torch.sub(1 - weight[0], weight[2], out=weight[1]).sub_(weight[3])
    return low, half, window, weight


def _ripmap(picture: Tensor) -> Tensor:
    """`(3, S, S)` to `(_ROWS * _WINDOWS, 12)`."""
    rows = torch.cat([torch.cat([x, x[:, :2]], 1) for x in _levels(picture, 1)], 1)
    windows = [torch.cat([x, x[..., :2]], 2).unfold(2, 4, 2) for x in _levels(rows, 2)]
    return torch.cat(windows, 2).permute(1, 2, 0, 3).reshape(-1, 12)


def _levels(picture: Tensor, dim: int) -> list[Tensor]:
    """The picture averaged over 1, 2, 4, ... texels along one dimension."""
    levels = [picture]
    for _ in range(_LEVELS - 1):
        levels.append(levels[-1].unflatten(dim, (-1, 2)).mean(dim + 1))
    return levels


def _noise(g: torch.Generator, low: float, high: float, slope: float = 1.0) -> Tensor:
    """Tileable noise `(S, S)` of zero mean and unit deviation; band in cycles a tile, spectrum f^-slope."""
    spectrum = torch.fft.rfft2(torch.randn(SIZE, SIZE, generator=g))
    fy, fx = torch.fft.fftfreq(SIZE, 1 / SIZE)[:, None], torch.fft.rfftfreq(SIZE, 1 / SIZE)[None]
    f = torch.hypot(fy, fx).clamp(min=0.5)
    spectrum = spectrum * f**-slope * torch.sigmoid((f - low) * 4) * torch.sigmoid((high - f) / (0.1 * high))
    out = torch.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return (out - out.mean()) / out.std()


def _paint(value: Tensor, dark: Sequence[float], light: Sequence[float]) -> Tensor:
    """Blend two colours by a value in [0, 1]: `(S, S)` to `(3, S, S)`."""
    a, b = torch.tensor(dark)[:, None, None], torch.tensor(light)[:, None, None]
    return a + (b - a) * value.clamp(0, 1)


def _grid() -> tuple[Tensor, Tensor]:
    c = (torch.arange(SIZE) + 0.5) / SIZE
    y, x = torch.meshgrid(c, c, indexing="ij")
    return x, y


def _mottled(dark: Sequence[float], light: Sequence[float], coarse: float, fine: float) -> Callable[..., Tensor]:
    def make(g: torch.Generator) -> Tensor:
        return _paint(0.5 + coarse * _noise(g, 2, 24) + fine * _noise(g, 16, 110, 0.5), dark, light)

    return make


def _slabs(
    rows: int,
    columns: int,
    shift: float,
    joint: float,
    dark: Sequence[float],
    light: Sequence[float],
    mortar: float,
    spread: float = 0.22,
) -> Callable[..., Tensor]:
    """Courses of bricks, paving or tiles, each of its own shade."""

    def make(g: torch.Generator) -> Tensor:
        x, y = _grid()
        row = (y * rows).long()
        xs = (x * columns + shift * (row % 2)) % columns
        fx, fy = xs % 1, (y * rows) % 1
        shade = torch.randn(rows, columns, generator=g)[row, xs.long()]
        value = 0.5 + spread * shade + 0.06 * _noise(g, 3, 40) + 0.05 * _noise(g, 30, 110, 0.4)
        ratio = columns / rows
        gap = torch.maximum((fx - 0.5).abs() * 2 - (1 - joint * ratio), (fy - 0.5).abs() * 2 - (1 - joint))
        inside = torch.sigmoid(-gap * 40)
        return _paint(value, dark, light) * inside + (mortar + 0.02 * _noise(g, 8, 80)) * (1 - inside)

    return make


def _facade(
    wall: Sequence[float], bays: int, window: tuple[float, float], frame: float, brick: bool
) -> Callable[..., Tensor]:
    """Two storeys of windows; `window` is width and height as a share of the bay and the storey."""

    def make(g: torch.Generator) -> Tensor:
        x, y = _grid()
        light = torch.tensor(wall)
        if brick:
            picture = _slabs(48, 20, 0.5, 0.22, (light * 0.62).tolist(), light.tolist(), 0.62, 0.16)(g)
        else:
            stain = 0.6 + 0.12 * _noise(g, 1, 12) + 0.12 * _noise(g, 12, 100, 0.6)
            picture = _paint(stain, (light * 0.72).tolist(), light.tolist())
        bay, storey = (x * bays).long(), (y * 2).long()
        fx, fy = (x * bays) % 1 - 0.5, (y * 2) % 1 - 0.48
        tone = torch.rand(2, bays, generator=g)[storey, bay]
        blind = 0.6 * torch.rand(2, bays, generator=g)[storey, bay] - 0.2
        half_w, half_h = window[0] / 2, window[1] / 2
        glass = _paint(
            0.25 + 0.5 * tone + 0.3 * (0.5 - fy) + 0.1 * _noise(g, 2, 20),
            (0.10, 0.13, 0.17),
            (0.45, 0.55, 0.66),
        )
        curtain = _paint(0.5 + 0.2 * torch.cos(fx * 90) + 0.1 * tone, (0.55, 0.5, 0.42), (0.9, 0.86, 0.78))
        glass = torch.where(fy < -half_h + blind * window[1], curtain, glass)
        bars = (fx.abs() < 0.012 * bays / 2) | ((fy + half_h * 0.35).abs() < 0.009)
        glass = torch.where(bars, torch.full_like(glass, frame), glass)
        outer = (fx.abs() < half_w + 0.03) & (fy.abs() < half_h + 0.022)
        inner = (fx.abs() < half_w) & (fy.abs() < half_h)
        picture = torch.where(outer, torch.full_like(picture, frame), picture)
        picture = torch.where(inner, glass, picture)
        sill = (fx.abs() < half_w + 0.06) & (fy > half_h + 0.022) & (fy < half_h + 0.05)
        picture = torch.where(sill, torch.full_like(picture, 0.72), picture)
        band = (fy + 0.48) < 0.03
        return torch.where(band, picture * 0.78, picture)

    return make


def _stripes(colours: tuple[Sequence[float], Sequence[float]], count: int, vertical: bool) -> Callable[..., Tensor]:
    def make(g: torch.Generator) -> Tensor:
        x, y = _grid()
        wave = torch.sin((x if vertical else y) * 2 * math.pi * count)
        return _paint(0.5 + 0.45 * torch.tanh(3 * wave) + 0.1 * _noise(g, 4, 90, 0.7), *colours)

    return make


def _coloured_noise(low: float, high: float) -> Callable[..., Tensor]:
    def make(g: torch.Generator) -> Tensor:
        base = 0.35 + 0.4 * torch.rand(3, 1, 1, generator=g)
        shared = 0.16 * _noise(g, low, high)
        return base + shared + 0.08 * torch.stack([_noise(g, low, high) for _ in range(3)])

    return make


_PATTERNS: dict[str, tuple[float, Callable[..., Tensor]]] = {
    "asphalt": (5.0, _mottled((0.16, 0.16, 0.17), (0.46, 0.45, 0.44), 0.09, 0.16)),
    "paving": (4.0, _slabs(8, 8, 0.5, 0.07, (0.42, 0.40, 0.37), (0.74, 0.71, 0.66), 0.3, 0.16)),
    "cobble": (2.0, _slabs(16, 12, 0.5, 0.2, (0.24, 0.24, 0.25), (0.55, 0.53, 0.50), 0.18)),
    "grass": (4.0, _mottled((0.10, 0.18, 0.05), (0.42, 0.50, 0.18), 0.18, 0.16)),
    "leaves": (2.5, _mottled((0.05, 0.12, 0.04), (0.40, 0.50, 0.16), 0.22, 0.20)),
    "bark": (1.0, _mottled((0.16, 0.11, 0.08), (0.46, 0.36, 0.27), 0.15, 0.15)),
    "brick": (2.4, _slabs(24, 10, 0.5, 0.16, (0.36, 0.17, 0.12), (0.70, 0.38, 0.28), 0.62)),
    "plaster": (5.0, _mottled((0.55, 0.52, 0.46), (0.88, 0.85, 0.78), 0.14, 0.10)),
    "concrete": (4.0, _mottled((0.38, 0.38, 0.38), (0.70, 0.69, 0.67), 0.15, 0.12)),
    "facade_brick": (6.4, _facade((0.64, 0.36, 0.28), 2, (0.42, 0.55), 0.86, True)),
    "facade_plaster": (6.4, _facade((0.88, 0.80, 0.64), 2, (0.40, 0.58), 0.90, False)),
    "facade_grey": (6.4, _facade((0.68, 0.70, 0.72), 3, (0.62, 0.55), 0.30, False)),
    "facade_stone": (6.8, _facade((0.80, 0.74, 0.66), 3, (0.46, 0.64), 0.42, False)),
    "roof": (3.0, _slabs(16, 10, 0.5, 0.14, (0.28, 0.14, 0.11), (0.52, 0.28, 0.22), 0.14)),
    "planks": (2.4, _slabs(12, 2, 0.5, 0.05, (0.34, 0.20, 0.10), (0.66, 0.46, 0.28), 0.14)),
    "carpet": (1.6, _mottled((0.30, 0.10, 0.12), (0.72, 0.40, 0.34), 0.16, 0.18)),
    "wallpaper": (1.2, _stripes(((0.58, 0.62, 0.56), (0.84, 0.83, 0.74)), 6, True)),
    "stripes": (0.8, _stripes(((0.75, 0.22, 0.15), (0.92, 0.90, 0.86)), 4, False)),
    "tiles": (2.0, _slabs(8, 8, 0.0, 0.05, (0.45, 0.55, 0.60), (0.85, 0.88, 0.88), 0.35)),
    "metal": (1.5, _mottled((0.52, 0.52, 0.54), (0.92, 0.92, 0.92), 0.12, 0.07)),
    "glass": (2.5, _mottled((0.06, 0.08, 0.11), (0.34, 0.40, 0.46), 0.20, 0.04)),
    "white": (1.5, _mottled((0.78, 0.78, 0.76), (1.0, 1.0, 0.98), 0.16, 0.14)),
    "noise0": (3.0, _coloured_noise(1, 20)),
    "noise1": (2.0, _coloured_noise(2, 48)),
    "noise2": (2.0, _coloured_noise(6, 90)),
    "clouds": (1.0, lambda g: (0.5 + 0.25 * _noise(g, 1, 60, 1.8)).expand(3, -1, -1)),
}


def make_textures(seed: int = 0, image_crops: Sequence[Tensor] = (), device: torch.device | str = "cpu") -> TextureBank:
    """The procedural textures, and the user's images as further textures `crop0`, `crop1`, ...

    Without images the bank is made once a process; with them, keep it and hand it to every scene.

    Args:
        seed: of the random patterns.
        image_crops: `(3, h, w)` RGB float in [0, 1]; each is mirrored once in x and y so that it tiles.
        device: where scenes with these textures are rendered.
    """
    bank = _procedural(seed, str(device))
    if not image_crops:
        return bank
    rows = []
    for crop in image_crops:
        small = torch.nn.functional.interpolate(
            crop[None].float(),
            size=(SIZE // 2, SIZE // 2),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )[0].clamp(0, 1)
        wide = torch.cat([small, small.flip(2)], 2)
        rows.append(_ripmap(torch.cat([wide, wide.flip(1)], 1)).to(device))
    names = bank.names + tuple(f"crop{i}" for i in range(len(rows)))
    periods = torch.cat([bank.periods, torch.full((len(rows),), 3.0)])
    return TextureBank(names, periods, torch.cat([bank.texels, *rows]))


@lru_cache(maxsize=2)
def _procedural(seed: int, device: str) -> TextureBank:
    rows = []
    for number, (_, make) in enumerate(_PATTERNS.values()):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        rows.append(_ripmap(make(generator).clamp(0, 1)))
    periods = torch.tensor([period for period, _ in _PATTERNS.values()])
    return TextureBank(tuple(_PATTERNS), periods, torch.cat(rows).to(device))
