"""`trianflow eval odometry`: table, JSON, picture and messages."""

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.evaluation.trajectories import noisy
from trianflow.cli import eval as command
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.trajectory import Trajectory

pytest.importorskip("evo")


def main(*argv: object) -> int:
    parser = argparse.ArgumentParser(prog="trianflow")
    parser.set_defaults(quiet=True, verbose=0)
    command.add_parser(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["eval", *map(str, argv)])
    return int(args.run(args))


def drive(scale: float = 1.0, n: int = 251) -> Trajectory:
    angle = np.linspace(0, np.pi, n)
    T_wc = np.tile(np.eye(4), (n, 1, 1))
    T_wc[:, :3, :3] = Rotation.from_euler("y", angle[:, None]).as_matrix()
    T_wc[:, :3, 3] = 80 * scale * np.stack([1 - np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    return Trajectory(np.arange(n) / 10, T_wc)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gt, est = tmp_path / "gt.txt", tmp_path / "run1" / "est.tum"
    est.parent.mkdir()
    drive().save(gt, "kitti")
    drive(0.9).save(est)
    return gt, est


def test_table(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("odometry", *files, "--alignment", "se3", "--lengths", 20, 40, "--step", 5) == 0
    out = capsys.readouterr().out
    assert "alignment     SE(3), 6-DoF, fitted to all compared poses" in out
    assert "segments      20, 40 m, one from every 5th frame" in out
    assert "251 poses, 251.3 m" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("est ")]
    assert row[:2] == ["est", "251"]
    assert float(row[2]) == pytest.approx(10, abs=0.5)  # a tenth of the way is missing
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [["20", "m"], ["40", "m"]]


def test_sim3_is_the_default_and_removes_the_scale(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("odometry", *files) == 0
    out = capsys.readouterr().out
    assert "Sim(3), 7-DoF" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("est ")]
    assert row[2] == "0.000"
    assert row[-1] == "1.1111"


def test_several_estimates_have_a_row_each(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    gt, est = files
    other = est.parents[1] / "run2" / "est.tum"
    other.parent.mkdir()
    short = drive(n=251)
    Trajectory(np.arange(100.0), short.T_wc[:100]).save(other, "kitti")
    assert main("odometry", gt, other, est) == 1, "named, and the other has its row"
    out, err = capsys.readouterr()
    assert "12 columns where 8" in err
    assert err.count("\n") == 1
    assert err.endswith("it has no row\n")
    assert "run1" in out or "est " in out
    with pytest.raises(TrianflowError, match="12 columns where 8"):
        main("odometry", gt, other, other.parent)
    other = other.with_suffix(".kitti")
    Trajectory(np.arange(100.0), short.T_wc[:100]).save(other)
    assert main("odometry", gt, est, other) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("run")][:2] == [
        ["run1/est", "251"],
        ["run2/est", "100"],
    ]
    assert "run2/est: no segment of 100 m in 99.5 m" in out
    assert "run2/est: 100 poses compared by frame index, of 251 true, 100 estimated" in out


def test_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("odometry", *files, "--alignment", "none", "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["ground_truth"] == str(files[0])
    found = out["estimates"]["est"]
    assert found["alignment"] == "none"
    assert (found["compared"], found["association"]) == (251, "row")
    # a tenth of the chord of 100 m on a circle of 80 m
    chord = 160 * np.sin(100 / 160)
    assert found["per_length"][0]["t_err"] == pytest.approx(0.1 * chord, rel=0.02)
    assert [e["length"] for e in found["per_length"]] == [100, 200, 300, 400, 500, 600, 700, 800]
    assert found["per_length"][-1]["t_err"] is None
    assert found["ate"]["rmse"] > 1


def test_plot(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert main("odometry", *files, "--plot", tmp_path / "plot.png") == 0
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_failures_are_one_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, est = files
    with pytest.raises(TrianflowError, match=r"nothing\.txt: cannot read"):
        main("odometry", tmp_path / "nothing.txt", est)
    with pytest.raises(UsageError, match="segment lengths must be positive"):
        main("odometry", gt, est, "--lengths", -5)
    with pytest.raises(UsageError, match="at least one frame"):
        main("odometry", gt, est, "--step", 0)
    Trajectory(np.array([0.05, 0.15]), drive().T_wc[:2]).save(tmp_path / "two.tum")
    with pytest.raises(TrianflowError, match=r"two\.tum: the ground truth has no time stamps"):
        main("odometry", gt, tmp_path / "two.tum")
    with pytest.raises(SystemExit):
        main("odometry", gt)
    with pytest.raises(SystemExit):
        main()


def test_bad_files_are_told_in_one_line(tmp_path: Path, trianflow: Callable) -> None:
    names = ("gt.tum", "empty.txt", "nan.tum", "late.tum", "part.txt", "one.tum")
    gt, empty, broken, late, part, one = (tmp_path / name for name in names)
    drive().save(gt)
    empty.write_text("\n")
    lines = gt.read_text().splitlines()
    fields = lines[4].split()
    broken.write_text("\n".join([*lines[:4], " ".join([*fields[:2], "nan", *fields[3:]]), *lines[5:], ""]))
    Trajectory(1000 + np.arange(200) / 10, drive().T_wc[:200]).save(late)
    Trajectory(np.arange(100), drive().T_wc[:100], times_are_indices=True).save(part, "kitti")
    Trajectory(np.array([0.5]), drive().T_wc[5:6]).save(one)
    for pred, said in (
        (empty, "empty.txt: empty, no pose in it"),
        (broken, "nan.tum:5: a number that is not finite"),
        (late, "late.tum: no common time stamp: ground truth 0 to 25, estimate 1000 to 1019.9"),
        (part, "part.txt: the estimate has no time stamps, the ground truth has, and they differ in length"),
        (one, "one.tum: 1 pose in common (by time stamp): at least two are needed to compare"),
    ):
        result = trianflow("eval", "odometry", gt, pred)
        assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1)
        assert said in result.errors[0]
        assert trianflow("eval", "odometry", pred, gt).code == 1


def test_curves_and_tables_as_files(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gt, est = files
    second = tmp_path / "second.tum"
    drive(0.8).save(second)
    words = ("--alignment", "se3", "--median", "--csv", tmp_path / "a.csv", "--latex", tmp_path / "a.tex")
    assert main("odometry", gt, est, second, *words, "--curves", tmp_path / "c.png") == 0
    out = capsys.readouterr().out
    assert "median: ± is half the range from the least to the largest" in out
    (row,) = [line for line in out.splitlines() if line.startswith("median of 2 ")]
    assert row.count("±") == 7
    rows = {row["estimate"]: row for row in csv.DictReader((tmp_path / "a.csv").open())}
    assert list(rows) == ["est", "second", "median of 2"]
    t_err = [float(rows[name]["t_err"]) for name in ("est", "second")]
    assert float(rows["median of 2"]["t_err"]) == pytest.approx(sum(t_err) / 2)
    assert float(rows["median of 2"]["t_err_spread"]) == pytest.approx((t_err[1] - t_err[0]) / 2)
    assert f"{t_err[0]:.3f}" in (tmp_path / "a.tex").read_text()
    assert (tmp_path / "c.png").stat().st_size > 10_000
    with pytest.raises(UsageError, match="--median is of several PRED"):
        main("odometry", gt, est, "--median")
    with pytest.raises(TrianflowError, match=r"a\.csv: cannot write the table: No such file"):
        main("odometry", gt, est, "--csv", tmp_path / "no" / "a.csv")


def test_stride(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, _ = files
    every = drive(0.9)
    every.save(tmp_path / "all.tum")
    Trajectory(np.arange(84) * 0.3, every.T_wc[::3]).save(tmp_path / "third.tum")
    words = ("--alignment", "se3", "--lengths", 20, 40, "--step", 2, "--stride", 3)
    assert main("odometry", gt, tmp_path / "all.tum", tmp_path / "third.tum", *words) == 0
    out = capsys.readouterr().out
    assert "every 3rd frame of the truth: 84 poses" in out
    assert "one from every 2nd kept frame" in out
    assert "all: of all frames, re-sampled like the truth" in out
    assert "third: one pose for each kept frame" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("all ", "third "))]
    assert rows[0][1:] == rows[1][1:]
    assert rows[0][1] == "84"
    assert main("odometry", gt, tmp_path / "all.tum", *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stride"], found["estimates"]["all"]["resampled"]) == (3, True)
    expected = evaluate_odometry(
        Trajectory(np.arange(84), Trajectory.load(gt).T_wc[::3]),
        Trajectory(np.arange(84), every.T_wc[::3]),
        "se3",
        [20, 40],
        2,
    )
    assert found["estimates"]["all"]["t_err"] == pytest.approx(expected.t_err, rel=1e-5)
    drive(n=100).save(tmp_path / "part.tum")
    with pytest.raises(TrianflowError, match=r"part\.tum: 100 poses are neither one for each of 251 frames"):
        main("odometry", gt, tmp_path / "part.tum", "--stride", 3)


def test_figures_of_papers_stand_below_where_the_truth_is_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = drive(n=1201)
    truth.T_wc[:, :3, 3] *= 919.52 / truth.path_length  # as sequence 10
    truth.save(tmp_path / "gt.txt", "kitti")
    noisy(truth).save(tmp_path / "est.txt", "kitti")

    def shown(*words: object) -> dict[str, list[float]]:
        assert main("odometry", tmp_path / "gt.txt", tmp_path / "est.txt", *words) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        names = ("TrianFlow", "Deep-VO-Feat")
        return {row[0]: [float(x) for x in row[2:4]] for row in rows if row and row[0] in names}

    assert shown() == {"TrianFlow": [4.66, 0.62]}
    assert shown("--published", "all") == {"TrianFlow": [4.66, 0.62], "Deep-VO-Feat": [9.60, 3.41]}
    assert shown("--stride", 3)["TrianFlow"] == [11.43, 2.57]
    for words in (["--alignment", "se3"], ["--lengths", 10], ["--step", 1], ["--stride", 2], ["--published", "none"]):
        assert shown(*words) == {}


@pytest.mark.data
def test_papers_stand_below_where_the_truth_is_theirs(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "reference_trajectories"
    pair = folder / "gt" / "09.txt", folder / "kitti_odom_eval_example_1" / "09.txt"
    for words, expected in (
        ([], 6.93),
        (["--stride", 3], 7.21),
        (["--published", "none"], None),
        (["--alignment", "se3"], None),
        (["--stride", 2], None),
    ):
        assert main("odometry", *pair, *words) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("TrianFlow ")]
        assert [float(row[2]) for row in rows] == ([] if expected is None else [expected])


@pytest.mark.data
def test_published_row(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "reference_trajectories"
    assert main("odometry", folder / "gt" / "10.txt", folder / "kitti_odom_eval_example_0" / "10.txt") == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("10 ")]
    assert row[:5] == ["10", "1197", "3.298", "0.3046", "6.630"]
