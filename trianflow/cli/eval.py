"""`trianflow eval`: score results against the truth."""

from __future__ import annotations

import argparse

from trianflow.cli import eval_depth, eval_flow, eval_odometry, eval_pose, eval_reproduce


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `eval` and what it can score to the sub-commands of the main program."""
    parser = subparsers.add_parser("eval", help="score results against the truth")
    kinds = parser.add_subparsers(dest="eval_command", metavar="WHAT", required=True)
    for kind in (eval_depth, eval_flow, eval_odometry, eval_pose, eval_reproduce):
        kind.add_parser(kinds)
