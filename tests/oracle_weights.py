"""The deterministic weights with which the oracle's network outputs were made (see the README beside them)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

GAINS = {
    "fpyramid": {},
    "pwc": {"predict_flow": 0.4, "dc_conv7": 0.15},
    "depth": {"encoder.encoder.layer": 0.5, "dispconvs": 0.3},
}


def oracle_state(keys_and_shapes: Mapping[str, Sequence[int]], network: str) -> dict[str, Tensor]:
    """The state dict of a network of the oracle.

    Args:
        keys_and_shapes: published keys relative to the network, as in `state_keys.json`.
        network: `fpyramid`, `pwc` or `depth`.

    Returns:
        float32 tensors, `num_batches_tracked` int64.
    """
    return {key: _tensor(key, tuple(shape), GAINS[network]) for key, shape in keys_and_shapes.items()}


def _tensor(key: str, shape: tuple[int, ...], gains: Mapping[str, float]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    n = np.asarray(np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape))
    if key.endswith("running_mean"):
        value = 0.1 * n
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(n)
    elif len(shape) > 1:
        gain = next((gain for part, gain in gains.items() if part in key), 1.0)
        value = n * np.sqrt(2 / np.prod(shape[1:])) * gain
    elif key.endswith("bias"):
        value = 0.01 * n
    else:
        value = 1 + 0.1 * n
    return torch.from_numpy(value.astype(np.float32))
