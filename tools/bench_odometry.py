"""The odometry's figures, and whether they are what they should be: real sequences, synthetic drives, cost.

    python tools/bench_odometry.py                        # all: hours; goes on where it was stopped
    python tools/bench_odometry.py 07 7scenes             # some sequences, the median of five seeds ± half their range
    python tools/bench_odometry.py 06/1 06/2 06/3 --jobs 2
    python tools/bench_odometry.py open loop --drives 3   # synthetic drives of 2,000 frames: drift of scale, loops
    python tools/bench_odometry.py published              # published trajectories of whole KITTI sequences
    python tools/bench_odometry.py cost                   # of the window alone, over 10,000 key frames
    python tools/bench_odometry.py metrics                # how long `trianflow eval odometry` takes for its figures

Below the tables stands a line for every limit that the rows can be held to; the exit code is 1 where one fails. Every
run is kept in a file of `--out` and not made again until a setting, the code or a library changes.

The real sequences need the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed
non-commercially. Variants: `front` each pair by itself with a carried structure; `window` key frames adjusted
together, the default; `height` the same in metres by the camera's height over the road, no scale aligned; `speed` in
metres by the car's speed, which is that of the true poses; `depth` measured depth alone; `fused` measured depth and
window; and, only where --variant asks for them, `pwc` and `pwc+dis`: `window` with the flow of the weights `driving`.
Where metres do not come, t_err and ATE are left out. Published systems: no trajectory at hand is of the frames that we
have; theirs of whole sequences are cut into pieces as long as our longest.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from odometry_cells import ALIGNMENT, DRIVES, LEARNED, PUBLISHED, SEQUENCES, Cell, Figures, figures_of, published_pieces
from odometry_claims import Claim, claims_of_drives, claims_of_sequences
from odometry_cost import cost_of_metrics, cost_of_window

from trianflow.evaluation.table import Column, Row, Table, median_row

COLUMNS = [
    Column("t_err", "t_err %", 2),
    Column("r_err", "r_err °/100 m", 2),
    Column("ate", "ATE m", 3),
    Column("rot", "rot °", 4),
    Column("dir", "dir °", 3),
    Column("path", "path", 2),
    Column("radial", "radial", 4),
    Column("lost", "lost", 0),
    Column("ms", "ms", 0),
]
DRIVE_COLUMNS = [
    Column("way", "way m", 0),
    Column("ratio", "last/first 100 m", 4),
    Column("end", "end error m", 2),
    Column("closed_ratio", "closed: last/first", 4),
    Column("closed_end", "end error m", 2),
    Column("loops", "loops", 0),
    Column("kept", "kept", 0),
    Column("false", "false", 0),
    Column("rot", "rot °", 4),
    Column("dir", "dir °", 3),
    Column("lost", "lost", 0),
    Column("ms", "ms", 0),
    Column("ms_first", "first fifth", 0),
    Column("ms_last", "last fifth", 0),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SEQUENCES, *DRIVES, "published", "cost", "metrics"]
    parser.add_argument("what", nargs="*", default=names[:-1], help=f"of {', '.join(names)}")
    parser.add_argument("--preset", default="accurate", choices=["accurate", "fast"])
    parser.add_argument("--variant", nargs="+", choices=list(ALIGNMENT), help="instead of all that make sense")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each real sequence")
    parser.add_argument("--drives", type=int, default=3, help="towns for each kind of drive")
    parser.add_argument("--frames", type=int, default=2000, help="of a drive")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; milliseconds are fair with one")
    parser.add_argument("--out", type=Path, default=Path("out/bench_odometry"))
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRIANFLOW_DATA", data)))
    args = parser.parse_args()
    if unknown := set(args.what) - set(names):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}: take of {', '.join(names)}")
    if set(args.what) & {*SEQUENCES, "published"} and not args.data.is_dir():
        parser.error(f"no data at {args.data}; set TRIANFLOW_DATA")
    return args


def cells(args: argparse.Namespace) -> list[Cell]:
    """All runs that were asked for."""
    found = []
    for name in args.what:
        if name in SEQUENCES:
            variants, seeds, frames = SEQUENCES[name].variants, args.seeds, 0
        elif name in DRIVES:
            variants, seeds, frames = DRIVES[name], args.drives, args.frames
        else:
            continue
        for variant in [v for v in (*variants, *LEARNED) if v in args.variant] if args.variant else variants:
            found += [Cell(name, variant, seed, args.preset, frames) for seed in range(seeds)]
    return found


def computed(todo: list[Cell], args: argparse.Namespace) -> dict[Cell, Figures]:
    """The figures of all cells; progress goes to stderr."""
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[Cell, Figures] = {}
    begin = time.perf_counter()
    for cell, figures in _in_turn(todo, args) if args.jobs < 2 else _beside(todo, args):
        results[cell] = figures
        took = f"{time.perf_counter() - begin:.0f} s"
        print(
            f"{len(results)} of {len(todo)}: {cell.sequence} {cell.variant} {cell.seed}, {took}",
            file=sys.stderr,
            flush=True,
        )
    return results


def _in_turn(todo: list[Cell], args: argparse.Namespace) -> Iterator[tuple[Cell, Figures]]:
    for cell in todo:
        yield cell, figures_of(cell, args.data, args.out, max(1, (os.cpu_count() or 1) // 2))


def _beside(todo: list[Cell], args: argparse.Namespace) -> Iterator[tuple[Cell, Figures]]:
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        jobs: dict[Future[Figures], Cell] = {pool.submit(figures_of, c, args.data, args.out, 1): c for c in todo}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def show(label: str, columns: list[Column], rows: Iterable[Row]) -> None:
    """Print a table of those columns that hold something."""
    rows = list(rows)
    used = [column for column in columns if any(row.values.get(column.key) is not None for row in rows)]
    print("\n" + Table(label, used, rows).text(), flush=True)


def main() -> int:
    args = arguments()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, torch"
        f" {torch.__version__}, OpenCV {cv2.__version__}; preset {args.preset}, {args.jobs} at a time"
        "\nt_err, r_err over 20, 40 (60, 80) m, a segment started every 10th frame; rot, dir: medians per pair; front,"
        "\nwindow and published systems by 7-DoF, the others by 6-DoF; path in units of the trajectory; radial: what"
        "\nthe calibration left; lost: frames; ms: median of a step, the flow computed beside it"
    )
    results = computed(cells(args), args)
    sequences: dict[tuple[str, str], list[Figures]] = {}
    drives: dict[tuple[str, str], Row] = {}
    claims: list[Claim] = []
    for cell, figures in results.items():
        if cell.sequence in DRIVES:
            drives[f"{cell.sequence} {cell.seed}", cell.variant] = Row(cell.variant, figures)
    for cell in sorted(results, key=lambda cell: cell.seed):
        if cell.sequence in SEQUENCES:
            sequences.setdefault((cell.sequence, cell.variant), []).append(results[cell])
    medians = {key: median_row(key[1], runs) for key, runs in sequences.items()}
    for columns, rows in ((COLUMNS, medians), (DRIVE_COLUMNS, drives)):
        for name in dict.fromkeys(name for name, _ in rows):
            order = [variant for variant in ALIGNMENT if (name, variant) in rows]
            show(name, columns, [rows[name, variant] for variant in order])
    claims += claims_of_sequences(sequences) + claims_of_drives(drives)
    if "published" in args.what:
        pieces = {name: published_pieces(name, args.data / "reference_trajectories") for name in PUBLISHED}
        rows_of_pieces = [median_row(f"{name}, {len(found)} pieces", found) for name, found in pieces.items()]
        show("published", COLUMNS[:5], rows_of_pieces)
    if "cost" in args.what:
        text, held_to = cost_of_window()
        print("\n" + text, flush=True)
        claims += held_to
    if "metrics" in args.what:
        print("\n" + cost_of_metrics(), flush=True)
    print("\n" + "\n".join(claim.line() for claim in claims) if claims else "", flush=True)
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
