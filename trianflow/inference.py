"""Where networks run and how: device, precision, threads, and the size that images are brought to."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from trianflow.errors import UsageError

Device = Literal["auto", "cpu", "cuda", "mps"]

DEFAULT_SIZE = (832, 256)  # width and height whose area is worked at where the weights name none (paper)
_MULTIPLE = 64  # of the sides, as the networks halve an image up to six times
_CLOSE = 0.1  # share by which a side may change to become such a multiple
THREADS = torch.get_num_threads()  # of a network on the CPU: what torch has before anyone asks for fewer

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt, in glibc's malloc.h

N = TypeVar("N", bound=nn.Module)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next; where the C library is glibc.

    A training step on the CPU allocates and frees hundreds of megabytes. By default each large tensor comes from the
    system and goes back to it, page by page: a tenth of the step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: Device) -> torch.device:
    """The device by name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise UsageError(f"torch {torch.__version__} finds no {name} device here: take --device cpu")
    return torch.device(name)


def choose_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies in it, which halves the time of a network; else float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    """AVX512_BF16, which every processor with AMX tiles has too. Elsewhere bfloat16 is emulated, and slower."""
    query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return query is not None and bool(query())


def prepared(network: N, device: torch.device, dtype: torch.dtype) -> N:
    """The network itself, in eval mode, moved, and laid out as convolutions like it best.

    Modules of it with a true attribute `full_precision` are left in float32.
    """
    network.eval().requires_grad_(False)
    kept = [module for module in network.modules() if getattr(module, "full_precision", False)]
    exact = [module.state_dict() for module in kept]
    network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module, state in zip(kept, exact):
        module.float().load_state_dict(state)
    return network


@contextmanager
def running() -> Iterator[None]:
    """No gradients, and every core for the calling thread, whatever it has else.

    The number of threads of torch belongs to the thread that sets it (and to threads to come), so that networks can
    take all cores in one thread beside geometry that keeps to a single one in another.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def size_of(card: dict[str, Any], network: Literal["flow", "depth", "pose"]) -> tuple[int, int]:
    """Width and height that a network was trained at, of the card of its weights.

    The card's `size` is that of all networks or, where they were trained apart, has one for each by name. Where it does
    not say, `DEFAULT_SIZE`.

    Raises:
        UsageError: it is not two numbers.
    """
    size = card.get("size", DEFAULT_SIZE)
    if isinstance(size, dict):
        size = size.get(network) or DEFAULT_SIZE
    try:
        width, height = (int(side) for side in size)
    except (TypeError, ValueError):
        raise UsageError(f"the weights' card says size {size!r}: it has to be [width, height]") from None
    return width, height


def working_size(width: int, height: int, area: int) -> tuple[int, int]:
    """The size that a network works at: of about this area and the image's shape, never larger than the image.

    Sides become multiples of 64 where one is close, as the network would pad them to one.

    Args:
        width, height: of the image.
        area: in pixels.

    Returns:
        Width and height.
    """
    scale = math.sqrt(area / (width * height))
    if scale >= 1:
        return width, height

    def side(full: int) -> int:
        exact = scale * full
        rounded = max(round(exact / _MULTIPLE), 1) * _MULTIPLE
        return rounded if abs(rounded - exact) <= _CLOSE * exact and rounded <= full else max(round(exact), 1)

    return side(width), side(height)


def network_input(image: np.ndarray, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """An image as networks take it.

    Args:
        image: `(H, W, 3)` RGB or `(H, W)` grey, uint8.
        size: width and height to bring it to.

    Returns:
        `(1, 3, h, w)` in [0, 1], channels last.
    """
    if size != image.shape[1::-1]:
        smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    x = torch.from_numpy(np.ascontiguousarray(image)).to(device)[None].permute(0, 3, 1, 2)
    return (x.float() / 255).to(dtype)


def resize_map(x: Tensor, height: int, width: int) -> Tensor:
    """A map `(B, C, h, w)` at another size, bilinear between the pixels' centres; itself where the size fits."""
    if x.shape[-2:] == (height, width):
        return x
    return interpolate(x, (height, width), mode="bilinear", align_corners=False)
