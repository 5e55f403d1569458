"""`tools/prove_methods.py`: its claims of results that are made up, and that one that does not hold makes it fail."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv("TRIANFLOW_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["prove_methods.py", "--report", "--out", str(tmp_path / "out")])
    return importlib.import_module("prove_methods")


def write(out: Path, name: str, abs_rel: float, on_movers: float, motion: float, rotations: list[float]) -> None:
    (out / name / "photometric").mkdir(parents=True, exist_ok=True)
    poses = {
        str(stride): {"rotation": rotation, "direction": 5.0, "translation": rotation / 2, "solved": 1.0}
        for stride, rotation in enumerate(rotations, 1)
    }
    values = {
        "depth": {"abs_rel": abs_rel},
        "objects": {"object_abs_rel": on_movers, "object_epe": motion},
        "poses": poses,
    }
    (out / name / "scores.json").write_text(json.dumps(values))


def write_scales(out: Path, name: str, *scales: float) -> None:
    rows = "".join(f"{60 * n},{scale}\n" for n, scale in enumerate(scales, 1))
    (out / name / "photometric" / "validation.csv").write_text("seconds,inverse_depth\n" + rows)


def made_up(out: Path) -> None:
    """Results in which every claim holds."""
    for name in ("ddvo_baseline", "monodepth2_average", "instadm_rigid", "posenet"):
        write(out, name, 0.3, 0.6, 2.0, [0.2, 0.5, 0.9])
    write(out, "ddvo_posecnn", 0.2, 0.6, 2.0, [0.2, 0.5, 0.9])
    write(out, "monodepth2", 0.2, 0.4, 2.0, [0.2, 0.5, 0.9])
    write(out, "instadm", 0.3, 0.5, 1.5, [0.2, 0.5, 0.9])
    write(out, "trianflow", 0.3, 0.6, 2.0, [0.1, 0.15, 0.2])
    write_scales(out, "ddvo_baseline", 4.0, 3.0, 2.0, 1.5, 1.0)
    write_scales(out, "ddvo_posecnn", 5.0, 1.0, 0.2, 0.25, 0.22)
    (out / "table.txt").write_text("method AbsRel\n")


def test_claims_hold_or_fail(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    made_up(out)
    assert tool.main() == 0
    said = capsys.readouterr().out
    assert said.count("| holds |") == 5
    assert "ddvo_baseline 4 -> 1, -58 %, ddvo_posecnn 5 -> 0.22, +13 %" in said
    assert "(1, 2, 3): trianflow 0.100 0.150 0.200, posenet 0.200 0.500 0.900" in said
    assert (out / "report.md").read_text() in said
    write(out, "monodepth2", 0.31, 0.4, 2.0, [0.2, 0.5, 0.9])
    write(out, "trianflow", 0.3, 0.6, 2.0, [0.1, 0.4, 0.7])  # three quarters of the growth
    assert tool.main() == 1
    assert capsys.readouterr().out.count("| FAILS |") == 3
    (out / "trianflow" / "scores.json").unlink()
    with pytest.raises(SystemExit, match="not scored yet: trianflow"):
        tool.main()


def verdicts(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> list[bool]:
    assert tool.main() == 1
    return ["holds" in line for line in capsys.readouterr().out.splitlines() if "holds |" in line or "FAILS |" in line]


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("ddvo_baseline", (4.0, 3.0, 2.1, 2.0, 2.0)),
        ("ddvo_posecnn", (5.0, 4.0, 3.0, 2.0, 1.0)),
        ("ddvo_posecnn", (5.0, 0.02, 0.02, 0.02, 0.02)),
        ("ddvo_baseline", (4.0, 1.0)),
        ("ddvo_baseline", ()),
        ("ddvo_posecnn", ()),
    ],
)
def test_depth_normalisation_is_judged_by_whether_the_scale_settles(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, scales: tuple[float, ...]
) -> None:
    """The baseline settles; the other does not, or at the least it can say; too little was looked at."""
    made_up(tmp_path / "out")
    write_scales(tmp_path / "out", name, *scales)
    assert verdicts(tool, capsys) == [False, True, True, True, True]


@pytest.mark.parametrize(("on_movers", "motion"), [(0.7, 1.5), (0.5, 2.1)])
def test_motions_of_objects_have_to_be_worth_something_in_both(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], on_movers: float, motion: float
) -> None:
    made_up(tmp_path / "out")
    write(tmp_path / "out", "instadm", 0.3, on_movers, motion, [0.2, 0.5, 0.9])
    assert verdicts(tool, capsys) == [True, True, False, True, True]


def test_the_report_says_how_many_steps(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trianflow.training import compare

    made_up(tmp_path / "out")
    monkeypatch.setattr(compare, "spent", lambda method: compare.Spent(len(method.name), 15.02))
    assert tool.main() == 0
    said = capsys.readouterr().out
    assert "Steps of training: ddvo_baseline 13 in 15.0 minutes, ddvo_posecnn 12 in 15.0 minutes" in said


def test_no_pose_network_may_be_better_at_speed(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up(tmp_path / "out")
    write(tmp_path / "out", "instadm_rigid", 0.3, 0.6, 2.0, [0.15, 0.15, 0.19])
    assert verdicts(tool, capsys) == [True, True, True, False, False]
