"""When a run has to end before it is done: a signal, or the time that it was given."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ignore_signals() -> None:
    """For processes that load data: Ctrl-C and a job's end reach them too, but the process that trains decides."""
    for kind in SIGNALS:
        signal.signal(kind, signal.SIG_IGN)


class Stopping:
    """Whether to stop after the step at hand.

    Args:
        minutes: that the run may take from `start_clock` on; None for no limit.

    Attributes:
        deadline: when they are over, on the monotonic clock; infinite without a limit.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self._minutes, self.deadline = minutes, math.inf
        self._asked = threading.Event()

    def start_clock(self) -> None:
        """From here on, the minutes run."""
        if self._minutes is not None:
            self.deadline = time.monotonic() + 60 * self._minutes

    @property
    def asked(self) -> bool:
        """Asked to by a signal."""
        return self._asked.is_set()

    @property
    def wanted(self) -> bool:
        """Asked to, or out of time."""
        return self.asked or time.monotonic() > self.deadline

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to stop while this lasts; a second one acts as ever."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}

        def on_signal(number: int, stack: Any) -> None:
            self._asked.set()
            signal.signal(number, before[number])

        for kind in SIGNALS:
            before[kind] = signal.signal(kind, on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
