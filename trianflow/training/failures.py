"""Failures of a run in words that help: memory that ran out, errors of the processes that load data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trianflow.data.pairs.batch import PairBatch
from trianflow.errors import TrianflowError
from trianflow.training.config import TrainConfig


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the GPU or of the machine."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text


def memory_advice(config: TrainConfig) -> str:
    """What to change where memory ran out."""
    width, height = config.data.size
    words = f"out of memory: lower batch_size (now {config.batch_size}) or data.size (now {width}x{height})"
    return words if config.precision != "32-true" else f"{words}, or set precision=bf16-mixed"


def batches_of(loader: Iterable[PairBatch]) -> Iterator[PairBatch]:
    """The batches of a DataLoader.

    Raises:
        TrianflowError: of the data set, in one line even where it comes with the traceback of a worker.
    """
    try:
        yield from loader
    except TrianflowError as error:
        lines = str(error).strip().splitlines()
        if len(lines) == 1:
            raise
        raise TrianflowError(lines[-1].partition(": ")[2]) from error
