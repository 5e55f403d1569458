"""The program `trianflow`: one sub-command a module, imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from trianflow.errors import TrianflowError, UsageError

COMMANDS = {
    "vo": "camera trajectory of a video or a folder of images",
    "train": "train the networks as a YAML file describes",
    "compare": "train methods for the same budget on the same data, and score them alike",
    "flow": "optical flow of two images, or of a video or a folder",
    "depth": "depth of the frames of a video or a folder by the network",
    "view": "trajectory, point cloud or mesh in a window or a picture",
    "eval": "score results against the truth",
    "doctor": "check the installation, and an input with its calibration",
    "demo": "run the bundled clip and score it",
    "bench": "time the networks, a step of odometry and of training",
    "prepare": "a dataset as downloaded becomes small pictures for training",
    "weights": "list, inspect, verify and import the weights of the networks",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: the words after the program's name; those of the command line by default.

    Returns:
        The exit code: 0 where the work was done, 1 for a failed run, 2 for wrong use, 130 after Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    verbose = 0
    # Before torch is loaded: its threads spin while they wait for one another, and take the core from what runs beside
    # a network (OpenCV, a worker); seen 12 times slower. To sleep at once costs training a quarter. 30 us lose nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        args = _parse(words)
        verbose = args.verbose
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except SystemExit as e:  # argparse: --help, --version, wrong use
        return e.code if isinstance(e.code, int) else 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        _drop_output()
        return 1
    except Exception as e:
        if verbose:
            traceback.print_exc()
        _complain(f"error: {_one_line(e)}")
        return 2 if isinstance(e, UsageError) else 1


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="trianflow",
        description="Monocular visual odometry with dense optical flow and real two-view geometry.",
        epilog="trianflow COMMAND --help tells more about a command.",
    )
    parser.add_argument("--version", action="version", version=f"trianflow {_version()}")
    parser.set_defaults(verbose=0, quiet=False)
    _add_verbosity(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), "")
    for name, text in COMMANDS.items():
        if name == chosen:
            importlib.import_module(f"trianflow.cli.{name}").add_parser(commands)
            _add_verbosity(commands.choices[name])
        else:
            commands.add_parser(name, help=text)
    args, rest = parser.parse_known_args(words)
    # argparse fills a second positional only right after the first, not behind an option
    settings = [word for word in rest if "=" in word and not word.startswith("-")]
    if not hasattr(args, "overrides") or len(settings) < len(rest):
        unknown = [word for word in rest if word not in settings or not hasattr(args, "overrides")]
        if unknown:
            commands.choices[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    if settings:
        args.overrides = [*args.overrides, *settings]
    return args


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add -v and -q, which may stand before and behind the command, to a parser and those below it."""
    hidden = argparse.SUPPRESS  # as default: what stands before the command is not undone behind it
    parser.add_argument("-v", "--verbose", action="count", default=hidden, help="say more; tracebacks of errors")
    parser.add_argument("-q", "--quiet", action="store_true", default=hidden, help="only warnings and errors")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _add_verbosity(below)


def _version() -> str:
    from trianflow import __version__

    return __version__


def _one_line(error: Exception) -> str:
    """What a person can use of an exception; its type too where it is not one of ours."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, TrianflowError):
        return text
    name = type(error).__name__
    return f"{name}: {text} (-v shows where)" if text else f"{name} (-v shows where)"


def _complain(text: str) -> None:
    try:
        print(f"trianflow: {text}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _drop_output()


def _drop_output() -> None:
    """Let what is still buffered for a closed pipe go nowhere, without another error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
