"""Checkpoint files of others: reading them safely, and filling a network from them with every key accounted for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trianflow.errors import TrianflowError

_NAMED = 8  # keys in a message
_NESTED = ("model_state_dict", "state_dict", "model")
_COUNTER = "num_batches_tracked"  # of batch norm; unused, and absent in old files


class CheckpointError(TrianflowError):
    """The tensors of a file are not those of the network.

    Attributes:
        missing: keys the network needs and the file lacks.
        extra: keys of the file for which the network has no place.
        misshapen: keys of another shape, with both shapes.
    """

    def __init__(self, where: object, missing: Sequence[str], extra: Sequence[str], misshapen: Sequence[str]) -> None:
        self.missing, self.extra, self.misshapen = tuple(missing), tuple(extra), tuple(misshapen)
        groups = [(k, v) for k, v in self.groups().items() if v]
        limit = _NAMED // max(len(groups), 1)
        parts = []
        for name, keys in groups:
            more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
            parts.append(f"{len(keys)} {name} ({', '.join(keys[:limit])}{more})")
        super().__init__(f"{where}: not the tensors of this network: {'; '.join(parts)}")

    def groups(self) -> dict[str, tuple[str, ...]]:
        """All keys by what is wrong with them."""
        return {"missing": self.missing, "extra": self.extra, "of another shape": self.misshapen}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth file: a state dict, or a dict that holds one beside other things.

    Nothing but numbers is read: a file that would run code is refused. The `module.` of DataParallel is removed.

    Raises:
        TrianflowError: the file cannot be read, or holds no tensors by name.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise TrianflowError(f"{path}: the file is empty; download it again")
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except TrianflowError:
        raise
    except OSError as e:
        raise TrianflowError(f"{path}: cannot read: {e.strerror or e}") from e
    except pickle.UnpicklingError as e:
        reason = "is no checkpoint of torch, or holds more than numbers, which could run code and is refused"
        raise TrianflowError(f"{path}: {reason}; save model.state_dict() alone with torch.save") from e
    except Exception as e:  # whatever the reader of torch meets in damaged bytes
        raise TrianflowError(f"{path}: no checkpoint of torch, or a damaged one; download it again") from e
    if isinstance(content, Mapping) and {"stage", "system", "optimizer"} <= content.keys():
        raise TrianflowError(f"{path}: the state of a training run; its weights are the .safetensors files beside it")
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = dict(content) if isinstance(content, Mapping) else {}
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise TrianflowError(f"{path}: holds no state dict (tensors by name, bare or under {', '.join(_NESTED)})")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    where: object,
    extra: Sequence[str] = (),
    original: Callable[[str], str] = str,
) -> None:
    """Load a state dict into a network, as float32, where all keys and shapes agree; else change nothing.

    Args:
        network: on any device.
        state: by the network's keys, any dtype; batch counters may be absent.
        where: the file, for messages.
        extra: further keys of the file that fit nowhere, to be named with the others.
        original: the name in the file of a key of the network.

    Raises:
        CheckpointError: keys or shapes differ.
        TrianflowError: numbers that are not finite.
    """
    own = network.state_dict()
    shapes = {key: (tuple(state[key].shape), tuple(own[key].shape)) for key in own if key in state}
    missing = [original(key) for key in own if key not in state and not key.endswith(_COUNTER)]
    unknown = [original(key) for key in state if key not in own]
    misshapen = [f"{original(k)} {theirs} for {ours}" for k, (theirs, ours) in shapes.items() if theirs != ours]
    if missing or unknown or extra or misshapen:
        raise CheckpointError(where, missing, [*unknown, *extra], misshapen)
    broken = [original(key) for key in shapes if not torch.isfinite(state[key]).all()]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise TrianflowError(f"{where}: NaN or infinite numbers in {broken[0]}{more}; the training had diverged")
    network.load_state_dict({key: state.get(key, value) for key, value in own.items()})
