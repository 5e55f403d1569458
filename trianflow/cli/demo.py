"""`trianflow demo`: the bundled clip, from video to a score, with the bundled weights."""

from __future__ import annotations

import argparse

from trianflow.assets import find_asset

LARGEST_ERROR = 1.0  # ATE in percent of the path's length up to which the demo counts as passed


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the sub-commands."""
    parser = subparsers.add_parser(
        "demo",
        help="run the bundled clip and score it",
        description="Run visual odometry with the bundled flow network, carried on by DIS, on the bundled clip"
        " and compare with its exact truth."
        f" Exit code 1 if the ATE after 7-DoF alignment is above {LARGEST_ERROR:g} % of the path.",
    )
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="folder of the results (out/demo)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow demo`; 0 where the trajectory fits the truth.

    Raises:
        TrianflowError: the clip is missing, evo is not installed, or the output cannot be written.
    """
    clip, calibration, truth = map(find_asset, ("demo.mp4", "demo_calib.yaml", "demo_groundtruth.tum"))
    from trianflow.cli import vo

    parser = argparse.ArgumentParser()
    vo.add_arguments(parser)
    words = [str(clip), "--calib", str(calibration), "--gt", str(truth)]
    given = parser.parse_args([*words, "--flow", "pwc+dis", "--out", args.out])
    given.verbose, given.quiet = args.verbose, args.quiet
    code, outcome = vo.execute(given)
    measured = outcome.report.evaluation
    if measured is None:
        return 1
    percent = 100 * measured["ate"]["rmse"] / measured["path_length"]
    passed = percent <= LARGEST_ERROR
    verdict = f"{'passed' if passed else 'FAILED'} (limit {LARGEST_ERROR:g} %)"
    print(f"demo    ATE {percent:.2f} % of the path after 7-DoF alignment: {verdict}")
    return code or int(not passed)
