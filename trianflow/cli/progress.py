"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType

from tqdm import tqdm

_EVERY = 5.0  # seconds between plain lines at least
_SILENCE = 30.0  # seconds after which a plain line comes even where less than a tenth was done


class Progress:
    """Shows the number of frames, their rate and how many had which status, on stderr.

    Args:
        total: frames to come, None where unknown.
        quiet: show nothing; messages still appear.
    """

    def __init__(self, total: int | None, quiet: bool = False) -> None:
        self.total = total
        self._statuses: Counter[str] = Counter()
        self._quiet = quiet
        self._done = self._told = 0
        self._begin = self._last = time.monotonic()
        self._bar: tqdm | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = tqdm(total=total, unit=" frames", file=sys.stderr, dynamic_ncols=True, smoothing=0.1)

    def advance(self, status: str) -> None:
        """One more frame, of this status."""
        self._done += 1
        self._statuses[status] += 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts(), refresh=False)
            self._bar.update()
            return
        now = time.monotonic()
        tenth = self.total is not None and (self._done - self._told) * 10 >= self.total
        waited = now - self._last
        if self._quiet or not (waited > _SILENCE or (waited > _EVERY and tenth)):
            return
        of = f" of {self.total} ({100 * self._done // self.total} %)" if self.total else ""
        rate = self._done / (now - self._begin)
        self.say(f"{self._done}{of} frames, {rate:.1f} a second: {self._counts()}")
        self._last, self._told = now, self._done

    def say(self, text: str) -> None:
        """A line on stderr that leaves the bar whole."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def _counts(self) -> str:
        return ", ".join(f"{count} {status}" for status, count in self._statuses.most_common())

    def __enter__(self) -> Progress:
        """The progress itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
