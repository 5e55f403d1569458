"""`trianflow bench`: how fast the networks are here."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict

from trianflow.errors import UsageError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench` to the sub-commands."""
    parser = subparsers.add_parser(
        "bench",
        help="time the networks, a step of odometry and of training",
        description="Time the networks, a step of odometry with both of them, and steps of training (batch 1), on the"
        " frames of the bundled clip. OMP_NUM_THREADS sets the threads. Medians; let nothing else run.",
    )
    parser.add_argument("--size", type=int, nargs=2, default=(832, 256), metavar=("W", "H"), help="of images (832 256)")
    parser.add_argument(
        "--weights", default="driving", metavar="NAME", help="whose networks: name or .safetensors file"
    )
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="runs of which the median counts (7)")
    parser.add_argument("--no-training", action="store_true", help="leave out the steps of training")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if min(args.size) < 64 or args.repeats < 1:
        raise UsageError("--size takes sides of 64 pixels and more, --repeats a positive number")
    from trianflow.benchmark import run_benchmark

    result = run_benchmark(tuple(args.size), args.weights, args.repeats, not args.no_training)
    if args.json:
        print(json.dumps(asdict(result), indent=2))
        return 0
    import torch

    print(
        f"{result.size[0]}x{result.size[1]}, {result.device} ({platform.machine()}), {result.threads} threads,"
        f" networks in {result.precision}, torch {torch.__version__};"
        f" peak of a matrix product {result.peak:.0f} GFLOP/s"
    )
    for timing in result.timings:
        share = result.share_of_peak(timing)
        work = "" if share is None else f"{timing.gflop:7.1f} GFLOP  {100 * share:3.0f} % of the peak"
        print(f"  {timing.name:32}{timing.milliseconds:8.1f} ms  {work}")
    statuses = ", ".join(f"{count} {status}" for status, count in result.statuses.items())
    print(f"odometry: {statuses}; {result.megabytes:.0f} MB at most before training")
    return 0
