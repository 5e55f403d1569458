"""Figures of papers, against those that the papers' texts name, and against themselves."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml

from trianflow.evaluation.published import published_rows

TABLES = yaml.safe_load(resources.files("trianflow.evaluation").joinpath("published.yaml").read_text(encoding="utf-8"))


def values(table: str, name: str) -> dict[str, float | None]:
    (row,) = [row for row in published_rows(table) if row.name == name]
    return dict(row.values)


def test_the_figures_of_trianflow() -> None:
    depth = dict(zip(("abs_rel", "sq_rel", "rmse", "rmse_log"), (0.113, 0.704, 4.581, 0.184)))
    assert values("depth_eigen", "TrianFlow") == depth | {"d1": 0.871, "d2": 0.961, "d3": 0.984}
    nyu = {"abs_rel": 0.189, "log10": 0.079, "rmse": 0.686, "d1": 0.701, "d2": 0.912, "d3": 0.978}
    assert values("depth_nyuv2", "TrianFlow (576x448)") == nyu
    assert values("kitti2015_flow", "TrianFlow") == {"epe_noc": 3.60, "epe_all": 5.72, "fl_all": 18.05}
    odometry = {"09": (6.93, 0.44), "10": (4.66, 0.62), "stride3_09": (7.21, 0.56), "stride3_10": (11.43, 2.57)}
    for sequence, (t_err, r_err) in odometry.items():
        assert values(f"kitti_odometry_{sequence}", "TrianFlow") == {"t_err": t_err, "r_err": r_err}


def test_the_figures_of_the_other_papers() -> None:
    assert values("depth_eigen", "Insta-DM (ResNet-18)")["abs_rel"] == 0.112
    assert values("kitti_odometry_09", "Insta-DM") == {"t_err": 8.6, "r_err": 2.9}
    assert values("kitti_odometry_10", "Insta-DM") == {"t_err": 9.2, "r_err": 4.5}
    assert values("snippet_ate_3", "Multi-mask")["ate_09"] == 0.009
    assert values("kitti_odometry_stride3_09", "ORB-SLAM2") == {"t_err": None, "r_err": None}


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_whole_and_plausible(table: str) -> None:
    for part in TABLES[table]:
        assert set(part) - {"few"} == {"source", "columns", "rows"}
        assert {len(row) for row in part["rows"].values()} == {len(part["columns"])}
        assert set(part.get("few", ())) <= set(part["rows"])
    rows = published_rows(table)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert "table" in row.source
        for key, value in row.values.items():
            assert value is None or 0 < value < (1 if key in ("d1", "d2", "d3") else 100)
        if None not in (deltas := [row.values.get(key) for key in ("d1", "d2", "d3")]):
            assert deltas == sorted(deltas)
        if None not in (pair := (row.values.get("epe_noc"), row.values.get("epe_all"))):
            assert pair[0] < pair[1]


@pytest.mark.parametrize("table", TABLES)
def test_a_few_rows_are_a_handful_of_all(table: str) -> None:
    few, every = published_rows(table, "few"), published_rows(table, "all")
    assert 0 < len(few) <= 9
    assert [row for row in every if row in few] == few
    assert published_rows(table, "none") == []
    if table in ("depth_eigen", "kitti2015_flow", "kitti_odometry_09", "kitti_odometry_stride3_10"):
        assert few[0].name == "TrianFlow"


def test_no_such_table() -> None:
    with pytest.raises(ValueError, match="no published table is called 'depth_moon'"):
        published_rows("depth_moon")
