"""The program around its commands: exit codes, one-line errors, options anywhere, cheap imports."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import trianflow as package
from trianflow import cli
from trianflow.errors import TrianflowError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], int]], None]:
    """Put a function of our own in the place of `trianflow probe`."""

    def put(run: Callable[[argparse.Namespace], int]) -> None:
        module = ModuleType("trianflow.cli.probe")

        def add_parser(commands: argparse._SubParsersAction) -> None:
            parser = commands.add_parser("probe", help="test")
            parser.add_argument("overrides", nargs="*")
            parser.set_defaults(run=run)

        module.add_parser = add_parser  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "trianflow.cli.probe", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", "test")

    return put


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TrianflowError("the disk is full"), 1, "trianflow: error: the disk is full"),
        (UsageError("no such file"), 2, "trianflow: error: no such file"),
        (ValueError("\n\nfirst\nsecond"), 1, "trianflow: error: ValueError: first (-v shows where)"),
        (AssertionError(), 1, "trianflow: error: AssertionError (-v shows where)"),
        (KeyboardInterrupt(), 130, "trianflow: interrupted"),
    ],
)
def test_failures_are_one_line(command, trianflow, error: BaseException, code: int, line: str) -> None:
    command(raising(error))
    result = trianflow("probe")
    assert (result.code, result.err, result.out) == (code, line + "\n", "")


@pytest.mark.parametrize("words", [("-v", "probe"), ("probe", "-v"), ("probe", "--verbose", "a=1")])
def test_traceback_with_v(command, trianflow, words: tuple[str, ...]) -> None:
    command(raising(TrianflowError("the disk is full")))
    result = trianflow(*words)
    assert result.code == 1
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1] == "trianflow: error: the disk is full"


def test_options_before_and_behind_the_command(command, trianflow) -> None:
    seen = []
    command(lambda args: seen.append((args.verbose, args.quiet, args.overrides)) or 0)
    for words in (["probe"], ["-v", "probe"], ["probe", "a=1", "-q", "b=2"], ["-q", "probe", "-vv"]):
        assert trianflow(*words).code == 0
    assert seen == [(0, False, []), (1, False, []), (0, True, ["a=1", "b=2"]), (2, True, [])]


def test_exit_code_of_the_command(command, trianflow) -> None:
    command(lambda args: 1)
    assert trianflow("probe").code == 1


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["--fly"], ["vo"], ["vo", "x", "--fly"], ["vo", "x", "--preset", "slow"], ["eval"]]
)
def test_wrong_use_is_2(trianflow, words: list[str]) -> None:
    result = trianflow(*words)
    assert result.code == 2
    assert "error: " in result.err.splitlines()[-1]


def test_stray_words_are_refused(trianflow) -> None:
    result = trianflow("doctor", "a", "b=1")
    assert result.code == 2
    assert "unrecognized arguments: b=1" in result.err


def test_version(trianflow) -> None:
    result = trianflow("--version")
    assert (result.code, result.out) == (0, f"trianflow {package.__version__}\n")
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert f'version = "{package.__version__}"' in text


def test_help_names_every_command(trianflow) -> None:
    result = trianflow("--help")
    assert result.code == 0
    for name in cli.COMMANDS:
        assert re.search(rf"^ +{name} ", result.out, re.MULTILINE)
        below = trianflow(name, "--help")
        assert below.code == 0
        assert below.out.startswith(f"usage: trianflow {name}")


def test_command_help_is_the_same_in_both_places() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    for name in cli.COMMANDS:
        importlib.import_module(f"trianflow.cli.{name}").add_parser(commands)
    assert {action.dest: action.help for action in commands._choices_actions} == cli.COMMANDS


def test_closed_pipe_is_quiet(started, tmp_path: Path) -> None:
    process = started("doctor", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)


# --- imports ------------------------------------------------------------------------------------------------


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_import_leaves_heavy_packages_alone() -> None:
    heavy = ("matplotlib", "evo", "open3d", "scipy.optimize", "pandas", "lightning", "rerun", "poselib")
    code = f"import sys, trianflow, trianflow.cli; print([m for m in {heavy} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_what_needs_no_network_does_not_wait_for_torch() -> None:
    kinds = ("depth", "flow", "odometry", "pose", "reproduce")
    fine = [["--help"], *([name, "--help"] for name in cli.COMMANDS), *(["eval", kind, "--help"] for kind in kinds)]
    smoke = str(REPOSITORY / "configs" / "smoke.yaml")
    wrong = [["train", smoke, "sytem.x=1"], ["train", smoke, "stages.flow.steps=many"], ["train", "nowhere.yaml"]]
    wrong += [["compare", smoke, "sytem.x=1", "--steps", "1"], ["compare", "nowhere.yaml", "--minutes", "1"]]
    wrong += [["vo", "images", "sede=3"], ["vo", "images", "--config", "nowhere.yaml"]]
    code = "import sys; from trianflow.cli import main\n"
    code += f"for words in {fine + wrong}: print('\\n>', *words, main(words), 'torch' in sys.modules)"
    told = [line for line in python(code).splitlines() if line.startswith("> ")]
    expected = [(words, 0) for words in fine] + [(words, 2) for words in wrong]
    assert told == [" ".join([">", *words, str(code), "False"]) for words, code in expected]
