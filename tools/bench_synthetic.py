"""Measure how many training pairs a second the synthetic world renders, as a data loader with workers would.

    python tools/bench_synthetic.py [--workers 2] [--pairs 40] [--size 320x192]

Every worker is a process with one thread: many small tensor operations gain little from a second thread, and
lose much where another process wants the core.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from multiprocessing import get_context

import torch

from trianflow.data.synthetic import random_pairs


def render_some(worker: int, pairs: int, width: int, height: int) -> tuple[float, float, float]:
    """Start, end and processor seconds of rendering `pairs` random pairs, warmed up."""
    torch.set_num_threads(1)
    random_pairs(1, height, width, 10_000 + worker)
    start, used = time.time(), time.process_time()
    for seed in range(pairs):
        random_pairs(1, height, width, 1000 * worker + seed)
    return start, time.time(), time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=40, help="of each worker")
    parser.add_argument("--size", default="320x192", help="width x height")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    job = partial(render_some, pairs=args.pairs, width=width, height=height)
    with get_context("spawn").Pool(args.workers) as pool:
        runs = pool.map(job, range(args.workers), chunksize=1)
    total = args.pairs * args.workers
    seconds = max(end for _, end, _ in runs) - min(start for start, _, _ in runs)
    used = sum(cpu for _, _, cpu in runs) / total
    rate = f"{total / seconds:.1f} pairs/s at {args.size} with {args.workers} workers"
    print(f"{rate}, {1e3 * used:.0f} CPU ms a pair")


if __name__ == "__main__":
    main()
