"""What a run leaves to look at: tables of numbers, TensorBoard where it is installed, and progress on the terminal."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from trianflow.files import replacing

METRICS, VALIDATION, BOARD = "metrics.csv", "validation.csv", "tensorboard"
_LINE_EVERY = 10.0  # seconds between plain lines


class Table:
    """A CSV file that grows by rows.

    Args:
        path: of the file.
        columns: its columns; the first is the step, counted over all stages.
        done: steps that are done; rows beyond, of an interrupted run, are removed.
    """

    def __init__(self, path: Path, columns: list[str], done: int) -> None:
        rows: list[dict[str, str]] = []
        if done and path.is_file():
            with open(path, newline="") as file:
                # a row that was cut off has no value for its last columns
                rows = [row for row in csv.DictReader(file) if None not in row.values()]
            rows = [row for row in rows if row.get(columns[0], "").isdigit() and int(row[columns[0]]) <= done]

        with replacing(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self._file = open(path, "a", newline="")  # noqa: SIM115 (open as long as the run)
        self._writer = csv.DictWriter(self._file, columns, restval="")

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row, on disk at once; floats with all their digits."""
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RunLog:
    """The tables and the TensorBoard of a run.

    Args:
        out: folder of the run.
        losses, figures: names of the loss terms and of what validation measures.
        done: steps that are done; what an interrupted run wrote beyond them is forgotten.
    """

    def __init__(self, out: Path, losses: list[str], figures: list[str], done: int) -> None:
        columns = ["step", "stage", "stage_step", "seconds", "lr", "gradient", "skipped", "solved", "total", *losses]
        self._metrics = Table(out / METRICS, columns, done)
        self._validation = Table(out / VALIDATION, ["step", "stage", "seconds", *figures], done)
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(out / BOARD), purge_step=done + 1)

    def step(self, step: int, facts: Mapping[str, Any], losses: Mapping[str, float]) -> None:
        """A row of `metrics.csv`."""
        self._metrics.add({"step": step, **facts, **losses})
        self._scalars("loss", losses, step)

    def validation(self, step: int, facts: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """A row of `validation.csv`."""
        self._validation.add({"step": step, **facts, **figures})
        self._scalars("validation", figures, step)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """A picture `(H, W, 3)` uint8 for TensorBoard."""
        if self._board is not None:
            self._board.add_image("pairs", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._validation.close()
        if self._board is not None:
            self._board.close()

    def _scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


class TrainingProgress:
    """How far a stage is, and when it will be done: a bar on a terminal, plain lines elsewhere, on stderr.

    Args:
        stage: its name.
        first, last: steps done before and at the end.
        later: steps of the stages to come, which are taken to be as fast.
        quiet: show nothing but messages.
        ends: when the run is to stop before that, on the monotonic clock.
    """

    def __init__(self, stage: str, first: int, last: int, later: int, quiet: bool, ends: float = math.inf) -> None:
        self._stage, self._first, self._last, self._later, self._quiet = stage, first, last, later, quiet
        self._ends = ends
        self._step = first
        self._begin = self._told = time.monotonic()
        self._bar: tqdm | None = None
        if sys.stderr.isatty() and not quiet:
            total = None if math.isfinite(ends) else last
            self._bar = tqdm(initial=first, total=total, desc=stage, unit="step", file=sys.stderr, dynamic_ncols=True)

    def advance(self, words: str) -> None:
        """One step is done."""
        self._step += 1
        now = time.monotonic()
        rate = (self._step - self._first) / max(now - self._begin, 1e-9)
        seconds = ((self._last + n - self._step) / rate for n in (0, self._later))
        left, whole = (timedelta(seconds=round(max(min(x, self._ends - now), 0))) for x in seconds)
        all_stages = f", all stages about {whole}" if self._later else ""
        timed = math.isfinite(self._ends)
        if self._bar is not None:
            self._bar.set_postfix_str(words + (f", {left} left" if timed else all_stages), refresh=False)
            self._bar.update()
            return
        if self._quiet or (now - self._told < _LINE_EVERY and self._step < self._last):
            return
        self._told = now
        of_all = "" if timed else f"/{self._last}"
        self.say(f"{self._stage} {self._step}{of_all}  {rate:.2f} steps/s  {left} left{all_stages}  {words}")

    def say(self, text: str) -> None:
        """A line that the bar does not swallow."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
