"""An iterator that works ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], ahead: int = 2) -> Iterator[T]:
    """Yield `items`, produced in a background thread up to `ahead` of the consumer.

    The thread starts with the first item asked for, ends with the iteration, also where the consumer stops
    early, and closes `items` itself; an exception in `items` is raised in the consumer, in its place.

    Args:
        items: any iterator; only the thread touches it.
        ahead: finished items that may wait; one more is in the making.
    """
    results: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(kind: str, value: T | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                results.put((kind, value), timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    break
            else:
                put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            close = getattr(items, "close", None)  # releases the video here, in the thread that reads it
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="trianflow-frames", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "item":
                yield value  # type: ignore[misc]
            elif kind == "error":
                assert isinstance(value, BaseException)
                raise value
            else:
                return
    finally:
        stop.set()
        while True:  # a waiting put() sees room and then the stop
            try:
                results.get_nowait()
            except queue.Empty:
                break
        thread.join()
