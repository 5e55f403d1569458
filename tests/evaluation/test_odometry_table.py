"""Tables of odometry metrics: what stands where, medians, notes."""

import csv
import io
import statistics
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.trajectories import drive, noisy
from trianflow.evaluation.odometry import OdometryMetrics, evaluate_odometry
from trianflow.evaluation.odometry_table import length_table, odometry_notes, odometry_table
from trianflow.evaluation.published import published_rows
from trianflow.trajectory import Trajectory


def metrics(seed: int, n: int = 250) -> OdometryMetrics:
    gt = drive(n, yaw=0.3)
    return evaluate_odometry(gt, noisy(gt, seed), "se3", with_evo=False)


def test_a_row_for_each_estimate() -> None:
    results = {"a": metrics(0), "bb": metrics(1)}
    text = odometry_table(results).text().splitlines()
    assert text[0].split()[:4] == ["estimate", "poses", "t_err", "%"]
    assert [line.split()[:2] for line in text[2:4]] == [["a", "251"], ["bb", "251"]]
    assert len({len(line) for line in text[:4]}) == 1
    cells = text[3].split()
    m = results["bb"]
    assert cells[2:4] == [f"{m.t_err:.3f}", f"{m.r_err:.4f}"]
    assert cells[4:7] == ["-"] * 3, "without evo"
    assert cells[7:] == [f"{m.pair_rotation_median:.4f}", f"{m.pair_direction_median:.3f}", "1.0000"]


def test_the_median_is_of_errors_only_and_stands_before_papers() -> None:
    results = {str(seed): metrics(seed) for seed in range(3)}
    table = odometry_table(results, median=True, published=published_rows("kitti_odometry_09"))
    row = table.rows[3]
    assert row.name == "median of 3"
    t_err = [m.t_err or 0 for m in results.values()]
    assert row.values["t_err"] == statistics.median(t_err)
    assert row.spread["t_err"] == pytest.approx((max(t_err) - min(t_err)) / 2)
    assert "scale" not in row.values
    assert "poses" not in row.values
    text = table.text()
    assert text.index("median of 3") < text.index("TrianFlow") < text.index("table 3")
    assert "6.93" in text
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert float(rows[0]["t_err"]) == t_err[0]
    assert float(rows[3]["t_err_spread"]) == row.spread["t_err"]
    assert rows[4]["t_err"] == "6.93"
    assert len(odometry_table({"a": metrics(0)}, median=True).rows) == 1


def test_errors_by_length() -> None:
    m = metrics(0)
    rows = [line.split() for line in length_table(m).text().splitlines()[2:]]
    assert [row[:2] for row in rows] == [[str(100 * i), "m"] for i in range(1, 9)]
    first = m.per_length[0]
    assert rows[0][2:] == [f"{first.t_err:.3f}", f"{first.r_err:.4f}", str(first.segments)]
    assert rows[7][2:] == ["-", "-", "0"]


def test_notes() -> None:
    assert odometry_notes(metrics(0)) == []
    gt = drive(50, yaw=0.3)
    short = evaluate_odometry(gt, noisy(gt), with_evo=False)
    assert odometry_notes(short) == [
        "no segment of 100 m in 50.0 m, so no t_err and r_err: --lengths 5 10 15 20 25 30 35 40",
    ]
    keep = np.arange(3, 51)
    part = evaluate_odometry(gt, replace(gt, times=gt.times[keep], T_wc=gt.T_wc[keep]), lengths=[10], with_evo=False)
    assert odometry_notes(part) == [
        "48 poses compared by frame index, of 51 true, 48 estimated",
    ]
    third = evaluate_odometry(gt, replace(gt, times=np.arange(17), T_wc=gt.T_wc[::3]), lengths=[10], with_evo=False)
    assert odometry_notes(third) == [
        "17 poses compared by frame index, of 51 true, 17 estimated",
        "as many poses as every 3rd frame has: if it is of those, --stride 3",
    ]
    clocks = [Trajectory(begin + 0.1 * np.arange(51), gt.T_wc) for begin in (0, 0.04, 1305031236.5)]
    said = [odometry_notes(evaluate_odometry(clocks[0], est, lengths=[10], with_evo=False)) for est in clocks]
    assert said == [[], [], ["compared row by row, though the time stamps are up to 1305031236.50 s apart"]]
    still = Trajectory(gt.times, np.tile(np.eye(4), (51, 1, 1)))
    assert "one place" in odometry_notes(evaluate_odometry(gt, still, lengths=[10], with_evo=False))[0]
    stands = odometry_notes(evaluate_odometry(still, noisy(gt), with_evo=False))
    assert stands[0] == "no segment of 100 m in 0.0 m, so no t_err and r_err"
