"""Failures of a run in words that help: memory that ran out, errors of the processes that load data."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from trianflow.data.pairs.batch import PairBatch
from trianflow.errors import TrianflowError
from trianflow.training.config import TrainConfig
from trianflow.training.engine import choose_training_precision


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the GPU or of the machine, which then may kill a process that loads data."""
    text = str(error).lower()
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    deaths = ("killed by signal: killed", "killed by signal: bus error", "exited unexpectedly")
    killed = "dataloader worker" in text and any(death in text for death in deaths)
    return isinstance(error, MemoryError) or killed or "allocate memory" in text or "out of memory" in text


def memory_advice(config: TrainConfig) -> str:
    """What to change where memory ran out."""
    width, height = config.data.size
    ways = [f"batch_size (now {config.batch_size})", f"data.size (now {width}x{height})"]
    if config.workers:
        ways.append(f"workers (now {config.workers})")
    words = f"out of memory: lower {', '.join(ways[:-1])} or {ways[-1]}"
    return words if choose_training_precision(config) != "32-true" else f"{words}, or set precision=bf16-mixed"


@contextmanager
def memory_guarded(config: TrainConfig) -> Iterator[None]:
    """Where memory may run out.

    Raises:
        TrianflowError: it did; with advice.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            raise TrianflowError(memory_advice(config)) from error
        raise


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
