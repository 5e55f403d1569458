"""The steps to the tables of the papers: their commands, and how their state is seen on the disk."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.data.datasets.kitti_trees import write_odometry
from trianflow.cli import _parse
from trianflow.config import load_settings
from trianflow.errors import UsageError
from trianflow.evaluation import reproduce
from trianflow.evaluation.reproduce import TABLES, Place, command_line, run_steps, steps_of
from trianflow.evaluation.reproduce_scores import DepthStep, OdometryStep, ScoreStep
from trianflow.evaluation.reproduce_steps import MissingStep, PrepareStep, Step, TrainStep, status_of
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.config import TrainConfig
from trianflow.training.run_folder import LAST, RunFolder


class Fake(Step):
    """A step that is made by hand."""

    def __init__(self, title: str, uses: tuple[Step, ...] = (), time: float | None = None, absent: str = "") -> None:
        super().__init__(title, ["do", title], uses)
        self.time, self.absent = time, absent

    def made(self) -> float | None:
        return self.time

    def lacks(self) -> str:
        return self.absent


def step(steps: Sequence[Step], kind: type[Step], number: int = 0) -> Step:
    return [s for s in steps if isinstance(s, kind)][number]


# --- the tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "published.safetensors"])
@pytest.mark.parametrize("table", list(TABLES))
def test_the_program_accepts_every_command(table: str, weights: str | None, tmp_path: Path) -> None:
    steps = steps_of(table, Place(tmp_path / "my data", tmp_path / "work", weights))
    assert [s for s in steps if isinstance(s, TrainStep)] == [] or weights is None
    sizes = set()
    for one in steps:
        if isinstance(one, MissingStep):
            assert one.words == ()
            continue
        program, *words = shlex.split(command_line(one))
        assert (program, tuple(words)) == ("trianflow", one.words)
        args = _parse(words)
        assert callable(args.run)
        if isinstance(one, PrepareStep):
            sizes.add(tuple(args.size))
            assert (args.source, args.out) == (str(one._data.path), str(one.out))
            asked = {key: getattr(args, key) for key in ("fit", "truth", "split", "stride")}
            asked |= {"size": list(args.size), "min_motion": args.min_motion or 0.0}
            assert one._settings == asked | {"reader": {"crop": True} if args.crop else {}}
        if isinstance(one, TrainStep):
            config = load_settings(TrainConfig(), args.config, args.overrides)
            sizes.add(config.data.size)
            assert config.data.root in [str(s.out) for s in steps if isinstance(s, PrepareStep)]
        if isinstance(one, OdometryStep):
            assert (args.flow, args.scale, args.stride) == ("pwc", "depth", 3 if "stride3" in table else 1)
    assert len(sizes) == 1 or (weights is not None and not sizes)
    assert status_of(steps[0]).state == "missing"


def test_what_the_tables_aim_at() -> None:
    """The figures of the papers, in the order of the columns of their tables."""
    expected = {
        "depth_eigen": [[0.113, 0.704, 4.581, 0.184, 0.871, 0.961, 0.984]],
        "kitti2015_flow": [[3.60, 5.72, 18.05]],
        "odometry": [[6.93, 0.44], [4.66, 0.62]],
        "odometry_stride3": [[7.21, 0.56], [11.43, 2.57]],
        "depth_nyuv2": [[0.189, 0.079, 0.686, 0.701, 0.912, 0.978]],
        "instadm_depth_eigen": [[0.112, 0.855, 4.690, 0.192, 0.874, 0.958, 0.980]],
        "instadm_odometry": [[8.6, 2.9], [9.2, 4.5], [0.010, 0.013, 0.011, 0.008]],
        "thesis_grid": [
            [0.208, 1.768, 6.856, 0.283, 0.678, 0.885, 0.957],
            [0.132, 1.044, 5.142, 0.210, 0.845, 0.948, 0.977],
        ],
    }
    aims = {name: [list(row.values.values()) for _, row in recipe.aims()] for name, recipe in TABLES.items()}
    assert aims == expected
    for name, recipe in TABLES.items():
        steps = steps_of(name, Place(Path("data"), Path("work"), "driving"))
        scored = tuple(s.published for s in steps if isinstance(s, ScoreStep))
        assert scored == (() if name == "instadm_odometry" else recipe.published)


def test_what_trianflow_cannot_do_is_missing() -> None:
    """One line each, whatever lies on the disk; nothing behind it is promised."""
    place = Place(Path("data"), Path("work"))
    no_system = "trianflow has no system that trains"
    for table, said in (
        ("instadm_depth_eigen", [f"{no_system} Insta-DM yet; --weights FILE predicts and scores"]),
        ("instadm_odometry", [f"{no_system} Insta-DM yet", "`trianflow vo` runs no Ego-PoseNet yet"]),
        (
            "thesis_grid",
            [f"{no_system} SfMLearner or Monodepth2 yet; --weights", "`trianflow prepare` has no reader for Lyft"],
        ),
    ):
        steps = steps_of(table, place)
        missing = [status_of(s) for s in steps if isinstance(s, MissingStep)]
        assert [status.state for status in missing] == ["missing"] * len(said)
        assert all(status.text.startswith(words) for status, words in zip(missing, said, strict=True))
        assert all(isinstance(s, PrepareStep | MissingStep) for s in steps)
    given = steps_of("thesis_grid", Place(Path("data"), Path("work"), "mine.safetensors"))
    assert [type(s) for s in given] == [PrepareStep, DepthStep, ScoreStep]
    assert "work/thesis_grid/mine/depth" in given[1].words


def test_settings_reach_preparation_and_training(tmp_path: Path) -> None:
    steps = steps_of("depth_eigen", Place(tmp_path, tmp_path, None, ("data.size=[256,128]", "stages.joint=null")))
    for number in range(2):
        words = step(steps, PrepareStep, number).words
        assert words[words.index("--size") + 1 :][:2] == ("256", "128")
    train = step(steps, TrainStep)
    assert "stages.joint=null" in train.words
    assert f"{tmp_path / 'runs' / 'kitti_raw' / 'depth.safetensors'}" in step(steps, DepthStep).words


def test_indoors_the_networks_see_the_crop_of_scenes_for_training() -> None:
    """As in the published test, which cuts the images before the network sees them."""
    steps = steps_of("depth_nyuv2", Place(Path("data"), Path("work")))
    for number, split in enumerate(("nyuv2_raw_train", "nyuv2_test")):
        args = _parse(list(step(steps, PrepareStep, number).words))
        assert (args.split, args.crop, args.truth) == (split, True, split == "nyuv2_test")


def test_the_same_training_serves_two_tables() -> None:
    place = Place(Path("data"), Path("work"))
    for one, other in (("depth_eigen", "kitti2015_flow"), ("odometry", "odometry_stride3")):
        first, second = (step(steps_of(table, place), TrainStep) for table in (one, other))
        assert first.words == second.words


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no table is called 'eigen'; there are depth_eigen,"):
        steps_of("eigen", Place(Path("data"), Path("work")))
    with pytest.raises(UsageError, match="seed=1: a setting of the training, which --weights leaves out"):
        steps_of("odometry", Place(Path("data"), Path("work"), "driving", ("seed=1",)))
    with pytest.raises(UsageError, match="did you mean"):
        steps_of("odometry", Place(Path("data"), Path("work"), None, ("batch_siz=1",)))


# --- states -------------------------------------------------------------------------------------------------


def test_states_follow_from_what_was_made_when() -> None:
    first = Fake("first")
    second = Fake("second", (first,))
    assert [status_of(s).state for s in (first, second)] == ["ready", "waiting"]
    assert status_of(second).text == "for first"
    first.absent, second.absent = "no disk", "no pen"
    assert [(status_of(s).state, status_of(s).text) for s in (first, second)] == [
        ("missing", "no disk"),
        ("missing", "no pen"),
    ]
    first.time, second.absent = 5.0, ""
    assert [status_of(s).state for s in (first, second)] == ["done", "ready"]
    second.time = 5.0
    assert status_of(second).state == "done"
    first.time = 6.0
    assert status_of(second).state == "ready"  # what it was made of is newer
    first.time = None
    assert status_of(second).state == "done"  # what it was made of may be thrown away
    second.follows, first.time = False, 6.0
    assert status_of(second).state == "done"


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trianflow.evaluation.reproduce_steps.find_spec", lambda name: None)
    score = step(steps_of("odometry", Place(Path("data"), Path("work"))), ScoreStep)
    assert status_of(score).text == "evo: pip install 'trianflow[eval]'"


def test_running() -> None:
    done, good, partly, bad = (
        Fake(title, time=1.0 if title == "done" else None) for title in ["done", "good", "partly", "bad"]
    )
    after, absent = Fake("after"), Fake("absent", absent="no archive")
    codes = {"good": 0, "partly": 1, "bad": 3, "after": 0}
    called: list[str] = []
    told: list[str] = []
    every = {s.title: s for s in (done, good, partly, bad, after, absent)}

    def call(words: Sequence[str]) -> int:
        called.append(words[-1])
        if words[-1] != "bad":
            every[words[-1]].time = 2.0  # type: ignore[attr-defined]
        return codes[words[-1]]

    assert run_steps([done, good, partly, bad, after], call, told.append) == 3
    assert called == ["good", "partly", "bad"]
    assert told[0] == "step 1 of 5: done: done"
    assert told[1] == "step 2 of 5: good: trianflow do good"
    assert "step 3, partly, ended with exit code 1, but left its result" in told
    assert told[-1] == "stopped at step 4, bad, with exit code 3: no complete result, as it said"
    assert run_steps([absent, after], call, told.append) == 1
    assert told[-1] == "stopped before step 1, absent: missing no archive"
    assert run_steps([done, good], call, told.append) == 0
    assert called == ["good", "partly", "bad"]


def test_a_preparation_is_done_when_all_of_the_dataset_is(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", tmp_path / "work")
    dataset = tmp_path / "data" / "kitti_odometry" / "dataset"
    write_odometry(dataset, ("00", "09"), scans=False)

    def prepare() -> PrepareStep:
        found = step(steps_of("odometry", place), PrepareStep)
        assert isinstance(found, PrepareStep)
        return found

    assert status_of(prepare()).state == "ready"
    assert "not there: 00: 4535 of 4541 frames (6-4540) (and 8 more)" in status_of(prepare()).text
    folder = tmp_path / "work" / "odometry_train" / "00"
    (folder / ".parts").mkdir(parents=True)
    assert status_of(prepare()).state == "ready"
    (folder / "prepared.json").write_text("{}")
    assert status_of(prepare()).state == "done"
    (folder.parent / "01" / ".parts").mkdir(parents=True)
    assert status_of(prepare()).state == "ready"  # another sequence was begun
    (folder.parent / "01" / ".parts").rmdir()
    assert status_of(prepare()).state == "done"
    settings = folder.parent / "prepare.json"
    same = {"size": [832, 256], "fit": "stretch", "min_motion": 0.002, "truth": False, "reader": {}}
    same |= {"split": "odometry_train", "stride": 1}
    settings.write_text(json.dumps(same))
    assert status_of(prepare()).state == "done"
    others = {"size": [64, 32], "fit": "crop", "min_motion": 0.0, "truth": True, "reader": {"crop": True}}
    others |= {"split": "odometry_test", "stride": 3}
    for key, value in others.items():
        settings.write_text(json.dumps(same | {key: value}))
        status = status_of(prepare())
        assert status.state == "missing"
        assert status.text.startswith(f"{folder.parent} was prepared with other settings ({key}): remove it")
    settings.write_text(json.dumps(same | {"split": None, "stride": 3}))  # all frames of the dataset, every third
    assert "(split, stride): remove it" in status_of(prepare()).text
    settings.unlink()
    write_odometry(dataset, ("05",), scans=False)
    assert status_of(prepare()).state == "ready"  # another archive was unpacked
    dataset.parent.rename(tmp_path / "gone")
    assert status_of(prepare()).state == "done"


def test_sequences_and_poses_that_are_missing(tmp_path: Path) -> None:
    dataset = tmp_path / "data" / "kitti_odometry"  # with sequences/ in it instead of dataset/sequences/
    write_odometry(dataset, ("00", "10"), scans=False)
    steps = steps_of("odometry", Place(tmp_path / "data", tmp_path / "work", "driving"))
    nine, ten = (step(steps, OdometryStep, number) for number in (0, 1))
    assert status_of(nine).text.startswith(f"no folder {dataset / 'sequences' / '09' / 'image_2'}; unpack data_odom")
    assert (status_of(ten).state, status_of(ten).text) == ("ready", "6 of 1201 frames are there")
    assert status_of(step(steps, ScoreStep, 1)).state == "waiting"
    (dataset / "poses" / "10.txt").unlink()
    assert (
        status_of(step(steps, ScoreStep, 1)).text
        == f"no {dataset / 'poses' / '10.txt'}; unpack data_odometry_poses.zip"
    )
    (dataset / "sequences" / "10" / "calib.txt").unlink()
    assert status_of(ten).text.endswith("calib.txt; unpack data_odometry_calib.zip")
    report = tmp_path / "work" / "odometry" / "driving" / "10" / "report.json"
    report.parent.mkdir(parents=True)
    for state, weights, made in (
        ("running", "driving", False),
        ("complete", "x", False),
        ("complete", "driving", True),
    ):
        report.write_text(json.dumps({"state": state, "config": {"weights": weights}}))
        assert (ten.made() is not None) is made
    report.write_text('{"state": "comp')
    assert ten.made() is None


def test_a_training_is_done_when_its_last_stage_is(tmp_path: Path) -> None:
    place = Place(tmp_path / "data", tmp_path / "work", None, ("batch_size=2", "stages.joint.epochs=3"))

    def train() -> TrainStep:
        found = step(steps_of("depth_eigen", place), TrainStep)
        assert isinstance(found, TrainStep)
        return found

    args = _parse(list(train().words))
    config = load_settings(TrainConfig(), args.config, args.overrides)

    def checkpoint(stage: str, done: int, batch_size: int = 2) -> None:
        plain = config.model_dump(mode="json") | {"overfit": None, "batch_size": batch_size}
        facts = {"system": {}, "optimizer": {}, "scaler": {}, "random": {}, "best": {}, "skipped": (0, 0)}
        state = Checkpoint(stage=stage, step=done, total_step=9, config=plain, pairs=10, digest="0", seconds=1, **facts)  # type: ignore[arg-type]
        folder = RunFolder(tmp_path / "work" / "runs" / "kitti_raw")
        folder.create()
        folder.save(state)

    assert train().made() is None
    checkpoint("joint", 14)  # of 3 x 10 / 2
    assert train().made() is None
    train().weights.write_bytes(b"")
    assert train().made() is None
    checkpoint("depth", 15)
    assert train().made() is None
    checkpoint("joint", 15)
    assert train().made() == train().weights.stat().st_mtime
    same = train()
    assert same.made() is not None
    checkpoint("joint", 14)
    os.utime(tmp_path / "work" / "runs" / "kitti_raw" / LAST, (1, 1))
    assert same.made() is None  # the checkpoint is read again
    checkpoint("joint", 15, batch_size=4)
    assert train().made() is None
    assert "with other settings (batch_size)" in train().lacks()
    assert f"or use its weights: --weights {train().weights}" in train().lacks()
    (tmp_path / "work" / "runs" / "kitti_raw" / LAST).unlink()
    assert train().made() is not None
    assert train().lacks() == ""


def test_depth_is_done_when_all_frames_are(tmp_path: Path) -> None:
    weights = tmp_path / "a" / "w.safetensors"
    steps = steps_of("depth_eigen", Place(tmp_path / "data", tmp_path / "work", str(weights)))
    depth = step(steps, DepthStep)
    assert (
        depth.lacks()
        == f"no weights {weights}; `trianflow weights import FILE.pth` makes them of a published checkpoint"
    )
    weights.parent.mkdir()
    weights.write_bytes(b"")
    assert depth.lacks() == ""
    assert depth.made() is None
    source, out = tmp_path / "work" / "eigen_test", tmp_path / "work" / "depth_eigen" / "a_w" / "depth"
    assert str(out) in depth.words
    for name, kept in (("day/one", 3), ("day/two", 2)):
        for folder in (source / name, out / name):
            folder.mkdir(parents=True)
        (source / name / "prepared.json").write_text(json.dumps({"kept": kept}))
    facts = {"written": 2, "skipped": [{}], "weights": str(weights)}
    (out / "day/one" / "depth.json").write_text(json.dumps(facts))
    assert depth.made() is None
    (out / "day/two" / "depth.json").write_text(json.dumps(facts | {"written": 1, "skipped": []}))
    assert depth.made() is None  # one of two frames
    (out / "day/two" / "depth.json").write_text(json.dumps(facts | {"weights": "others"}))
    assert depth.made() is None
    (out / "day/two" / "depth.json").write_text(json.dumps(facts))
    os.utime(out / "day/one" / "depth.json", (7, 7))
    assert depth.made() == 7
    assert status_of(depth).state == "ready"  # the weights are newer


def test_figures_are_those_of_the_first_row(tmp_path: Path) -> None:
    steps = steps_of("kitti2015_flow", Place(tmp_path, tmp_path, "driving"))
    score = step(steps, ScoreStep)
    assert isinstance(score, ScoreStep)
    assert score.figures() == {}
    score.table.parent.mkdir(parents=True)
    score.table.write_text("images,images,epe_all,fl_all,source\nflow,200.0,5.5,,\nTrianFlow,,5.72,18.05,a paper\n")
    assert score.figures() == {"images": 200.0, "epe_all": 5.5}
    assert score.note() == ""
    score.table.write_text("images,images,epe_all,source\nflow,199.0,5.5,\n")
    assert score.note() == "of 199 images, not the 200 of the papers"


@pytest.mark.parametrize(("table", "counts"), [("odometry", [1591, 1201]), ("odometry_stride3", [531, 401])])
def test_how_many_poses_the_papers_scored(table: str, counts: list[int], tmp_path: Path) -> None:
    steps = steps_of(table, Place(tmp_path, tmp_path, "driving"))
    for number, count in enumerate(counts):
        score = step(steps, ScoreStep, number)
        assert isinstance(score, ScoreStep)
        score.table.parent.mkdir(parents=True, exist_ok=True)
        score.table.write_text("x,poses,t_err,source\n09,1.0,,\n")
        assert score.note() == f"of 1 poses, not the {count} of the papers"
        score.table.write_text(f"x,poses,t_err,source\n09,{count}.0,,\n")
        assert score.note() == ""


def test_a_root_that_yaml_would_take_for_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = reproduce._data_words(Path("12"), [{"path": "*"}], [])
    assert yaml.safe_load(words[0].partition("=")[2]) == "12"
