"""Checkpoints: everything a run needs to go on as if it had never stopped, written so that a crash cannot spoil it."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trianflow.errors import TrianflowError
from trianflow.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        stage: name of the stage.
        step: steps of this stage that are done.
        total_step: steps of all stages that are done.
        system: state dict of the networks.
        optimizer: of this stage.
        scaler: of the gradients' scale with float16; empty otherwise.
        random: states of torch's generators.
        best: stage to the best value of what validation watches.
        skipped: steps without a finite gradient so far, and in a row.
        config: of the run, as plain values.
        pairs: number of training pairs.
        digest: of their sources, see `PairDataset.digest`.
        seconds: that the run has taken so far.
    """

    stage: str
    step: int
    total_step: int
    system: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    random: dict[str, Any]
    best: dict[str, float]
    skipped: tuple[int, int]
    config: dict[str, Any]
    pairs: int
    digest: str
    seconds: float

    def save(self, path: Path) -> None:
        """Write the file at once or not at all."""
        save_tensors(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint of a run.

        Raises:
            TrianflowError: no such file, or not a checkpoint of this version.
        """
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # whatever the reader of torch meets in damaged bytes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrianflowError(
                f"{path}: not a checkpoint of a training run ({reason}); --restart begins anew"
            ) from error


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`, at once or not at all; OSError where the disk is full, which torch's own writer hides."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def random_state() -> dict[str, Any]:
    """States of torch's generators; nothing else here draws from a global one."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random(state: dict[str, Any]) -> None:
    """Set what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
