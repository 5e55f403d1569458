"""`--predict` of `trianflow eval`: what is scored are files, written by the command that makes them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trianflow.errors import UsageError


def prediction_folder(args: argparse.Namespace, is_earlier: Callable[[Path], bool]) -> Path:
    """The folder that predictions are written to, PRED.

    Args:
        args: of the kind.
        is_earlier: whether a folder with something in it holds an earlier prediction, which may be replaced.

    Raises:
        UsageError: it lies in the truth, is a file, or holds other things.
    """
    out, gt = Path(args.pred[0]).expanduser(), Path(args.gt).expanduser()
    if gt.is_dir() and out.resolve().is_relative_to(gt.resolve()):
        raise UsageError(f"{out} lies in the truth: name another folder for the predictions")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not is_earlier(out)):
        raise UsageError(f"{out} holds other things: name a new folder, or leave out --predict to score what is there")
    return out


def run_command(args: argparse.Namespace, name: str, words: Sequence[str]) -> int:
    """Run `trianflow NAME WORDS` with the networks that were asked for; what it prints goes to stderr.

    Returns:
        Its exit code; 1 where most frames could not be predicted.

    Raises:
        TrianflowError, UsageError: as the command itself.
    """
    parser = argparse.ArgumentParser(prog="trianflow")
    parser.set_defaults(verbose=args.verbose, quiet=args.quiet)
    importlib.import_module(f"trianflow.cli.{name}").add_parser(parser.add_subparsers())
    options: list[str] = []
    for option, value in (("--weights", args.weights), ("--device", args.device)):
        options += [option, value] if value is not None else []
    if args.network_size is not None:
        options += ["--network-size", *map(str, args.network_size)]
    given = parser.parse_args([name, *words, *options])
    with contextlib.redirect_stdout(sys.stderr):
        return int(given.run(given))


def predict_trajectory(args: argparse.Namespace, stride: int = 1) -> int:
    """Write the trajectory of the images: with `--weights` by their networks, else as `trianflow vo` does by itself.

    Returns:
        The exit code of `trianflow vo`; 1 where most poses are guesses.

    Raises:
        TrianflowError, UsageError: as `prediction_folder` and `run_command`.
    """
    out = prediction_folder(args, lambda folder: (folder / "report.json").is_file())
    words = [args.predict, "--out", str(out), "--stride", str(stride)]
    if args.weights is not None:
        from trianflow.weights import load_weights

        words += ["--flow", "pwc"]
        words += ["--scale", "depth"] if load_weights(args.weights).depth is not None else []
    return run_command(args, "vo", words)
