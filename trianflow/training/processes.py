"""What the processes of a run do together: agree, fail as one, and read data one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from lightning.fabric import Fabric

from trianflow.errors import TrianflowError, UsageError

T = TypeVar("T")


def everywhere(fabric: Fabric, fine: bool) -> bool:
    """Whether something holds on every process."""
    if fabric.world_size == 1:
        return fine
    bad = fabric.all_reduce(torch.tensor(float(not fine), device=fabric.device), reduce_op="sum")
    assert isinstance(bad, torch.Tensor)
    return not bool(bad)


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """What some of the processes do while the others wait; an error of one ends all, and the connection with them.

    Raises:
        TrianflowError: on the processes whose own part went well, where another's did not.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if everywhere(fabric, failure is None):
        return
    leave()
    raise failure or TrianflowError("another process of this run failed; its message says why")


def first_on_each_machine(fabric: Fabric, work: Callable[[], T]) -> T:
    """Let one process of each machine do something, which may fill a cache, and then the others; errors end all."""
    results: list[T] = []
    failure: Exception | None = None
    with fabric.rank_zero_first(local=True):
        try:
            results.append(work())
        except Exception as error:
            failure = error
    with together(fabric):
        if failure is not None:
            raise failure
    return results[0]


def leave() -> None:
    """End the connection to the other processes, after the last thing done together: its threads may not outlive it.

    A process that ends while they run is aborted by the C++ library. A thread that lets go of a tensor needs the
    interpreter's lock, which is held where the last reference to the group ends and waits for the threads: so the lock
    is given away for a moment first, or both may wait for ever. A moment is enough in practice, not by construction.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        time.sleep(0.2)
        torch.distributed.destroy_process_group()


def require_same(fabric: Fabric, values: Sequence[int], what: str) -> None:
    """Check that all processes have the same numbers.

    Raises:
        UsageError: they have not, on every process.
    """
    if fabric.world_size == 1:
        return
    own = torch.tensor([*values, *(-value for value in values)], device=fabric.device)
    largest = fabric.all_reduce(own.clone(), reduce_op="max")
    assert isinstance(largest, torch.Tensor)
    if not everywhere(fabric, bool((largest == own).all())):
        leave()
        raise UsageError(
            f"the processes differ in {what}: give all machines the same --out on a shared disk, and the same data"
        )
