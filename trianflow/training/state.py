"""Where a run is, beside its networks."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from trianflow.training.checkpoint import Checkpoint
from trianflow.training.validation import watched


@dataclass
class RunState:
    """Counts and figures of a run, over all its parts.

    Attributes:
        steps: done over all stages.
        skipped: of them, those without a finite gradient.
        skipped_in_a_row: the last so many.
        best: stage to the best value of what validation watches.
        earlier: seconds that the parts before this one took.
        figures: of the last validation of this part.
        measured: steps that were done then.
    """

    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: dict[str, float] = field(default_factory=dict)
    earlier: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    measured: int = 0

    def __post_init__(self) -> None:
        self._begin = time.monotonic()

    @classmethod
    def of(cls, saved: Checkpoint | None) -> RunState:
        """The state of a new run, or of one that goes on."""
        if saved is None:
            return cls()
        return cls(saved.total_step, *saved.skipped, best=dict(saved.best), earlier=saved.seconds)

    def start_clock(self) -> None:
        """From here on, time counts as spent on training."""
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on training so far, with validation."""
        return self.earlier + time.monotonic() - self._begin

    def measure(self, stage: str, learning: Collection[str], figures: dict[str, float]) -> bool:
        """Keep what a validation found; whether it is the best of the stage, in which these networks learn."""
        self.figures, self.measured = figures, self.steps
        value = next((figures[key] for key in watched(stage, learning) if key in figures), None)
        if value is None or not value < self.best.get(stage, float("inf")):
            return False
        self.best[stage] = value
        return True
