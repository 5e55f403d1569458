"""What `bench_odometry.py` holds the odometry to: a limit for a figure, the figure, and whether it keeps it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trianflow.evaluation.table import Row, median_row

Figures = Mapping[str, float | None]

# What a figure of the window may be of the front end's, with rotations and directions.
_NOISE = 1.02


@dataclass(frozen=True)
class Claim:
    """A figure that should be at most its limit.

    Attributes:
        text: what it is, with the unit.
        value, limit: the figure and what it may be; a figure that could not be computed is None, and keeps nothing.
    """

    text: str
    value: float | None
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it is."""
        return self.value is not None and self.value <= self.limit

    def line(self) -> str:
        """In words."""
        value = "unknown" if self.value is None else f"{self.value:.4g}"
        return f"{'holds' if self.holds else 'FAILS'}  {self.text}: {value}, at most {self.limit:.4g}"


def claims_of_sequences(runs: Mapping[tuple[str, str], Sequence[Figures]]) -> list[Claim]:
    """Those of real sequences, by the medians of their seeds.

    Args:
        runs: figures of every seed, in the same order everywhere, by sequence and variant.
    """
    claims = []
    rows = {key: median_row(key[1], found) for key, found in runs.items()}
    for (sequence, variant), row in rows.items():
        front, found = rows.get((sequence, "front")), row.values
        if (sequence, variant) == ("07", "height"):
            claims.append(Claim("07 by camera height, scale not aligned, t_err %", found.get("t_err"), 3.0))
        if variant != "window":
            continue
        if sequence == "07":
            claims.append(Claim("07 with window, t_err %", found["t_err"], 0.8))
        if front is None:
            continue
        if sequence[:2] in ("06", "01"):
            both = [(a["t_err"], b["t_err"]) for a, b in zip(runs[sequence, "front"], runs[sequence, "window"])]
            worse = [math.inf if ours is None else ours - theirs for theirs, ours in both if theirs is not None]
            value = statistics.median(worse) if worse else None
            claims.append(Claim(f"{sequence} t_err %, window less front end, seed by seed", value, 0.0))
        if sequence == "7scenes":
            claims += _against(front, row, "7scenes without depth, ATE m, half of the front end's", "ate", 0.5)
        claims += [
            *_against(front, row, f"{sequence} rotation, degrees a pair", "rot", _NOISE),
            *_against(front, row, f"{sequence} direction, degrees a pair", "dir", _NOISE),
        ]
    return claims


def claims_of_drives(rows: Mapping[tuple[str, str], Row]) -> list[Claim]:
    """Those of the rows of synthetic drives, by drive (kind and seed) and variant."""
    claims = []
    for (drive, variant), row in rows.items():
        front, found = rows.get((drive, "front")), row.values
        if variant != "window":
            continue
        if front is not None:
            claims += [
                *_against(front, row, f"{drive} rotation, degrees a pair", "rot", _NOISE),
                *_against(front, row, f"{drive} direction, degrees a pair", "dir", _NOISE),
            ]
        claims.append(Claim(f"{drive} false loops", found["false"], 0))
        if drive.startswith("loop"):
            fifth, closed = (found["end"] or 0.0) / 5, found.get("closed_end")
            claims.append(Claim(f"{drive} end error with loops, m, a fifth of that without", closed, fifth))
        else:
            ratio = found["ratio"]
            off = None if ratio is None else abs(ratio - 1)
            claims.append(Claim(f"{drive} scale of the last to the first 100 m, off 1 by", off, 0.03))
    return claims


def _against(front: Row, window: Row, text: str, key: str, factor: float) -> list[Claim]:
    """The window's figure against the front end's, where that is known."""
    limit = front.values.get(key)
    return [] if limit is None else [Claim(text, window.values.get(key), factor * limit)]
