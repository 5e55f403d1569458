"""The tables of the papers as lists of steps: prepare, train, predict, score."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from trianflow.config import load_settings
from trianflow.data.datasets.splits import ODOMETRY_LENGTHS
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_protocols import PROTOCOLS
from trianflow.evaluation.published import published_rows
from trianflow.evaluation.reproduce_scores import DepthStep, Networks, OdometryStep, ScoreStep
from trianflow.evaluation.reproduce_steps import DataFolder, MissingStep, PrepareStep, Step, TrainStep, status_of
from trianflow.evaluation.table import Row
from trianflow.training.config import TrainConfig

_KITTI = "https://www.cvlibs.net/datasets/kitti"
_NYU = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
_WATCHED_DRIVE = "2011_09_26_drive_0005_sync"  # held out of the training drives
_KITTI_2015_SCENES = 200
_STATIC = "0.002"  # as data.min_motion of the configuration
_NO_SYSTEM = "trianflow has no system that trains {} yet"
_OR_WEIGHTS = "; --weights FILE predicts and scores depth by networks that are there"


@dataclass(frozen=True)
class Place:
    """Where things are, and what is asked for.

    Attributes:
        data: folder of the datasets: `kitti_raw`, `kitti_odometry`, `kitti_2015`, `nyuv2`, `nyuv2_raw`.
        work: folder of everything that is made.
        weights: file or name of weights; None trains them.
        overrides: words `key=value` for the training.
    """

    data: Path
    work: Path
    weights: str | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRecipe:
    """A table that can be reproduced.

    Attributes:
        label: for people.
        published: names of the tables of papers whose figures are aimed at.
        rows: whose figures, in each of these tables.
        steps: makes the list.
    """

    label: str
    published: tuple[str, ...]
    rows: tuple[str, ...]
    steps: Callable[[Place], list[Step]]

    def aims(self) -> list[tuple[str, Row]]:
        """The published rows, each with the name of its table."""
        return [
            (table, next(row for row in published_rows(table) if row.name == name))
            for table in self.published
            for name in self.rows
        ]


def steps_of(table: str, place: Place) -> list[Step]:
    """The steps to a table, in their order.

    Args:
        table: one of `TABLES`.
        place: where things are.

    Raises:
        UsageError: no such table, settings of the training that cannot be right, or settings beside weights.
        TrianflowError: the configurations are not there.
    """
    if table not in TABLES:
        raise UsageError(f"no table is called {table!r}; there are {', '.join(TABLES)}")
    if place.weights is not None and place.overrides:
        raise UsageError(f"{place.overrides[0]}: a setting of the training, which --weights leaves out")
    return TABLES[table].steps(place)


def run_steps(steps: Sequence[Step], call: Callable[[Sequence[str]], int], tell: Callable[[str], object]) -> int:
    """Do what is not done, in order, up to the first step that cannot be done or fails.

    Args:
        steps: in their order.
        call: the program: from its words to its exit code.
        tell: told what happens, a line at a time.

    Returns:
        0 where all steps are done, else the exit code of the one that failed, or 1.
    """
    for number, step in enumerate(steps, 1):
        status = status_of(step)
        if status.state == "done":
            tell(f"step {number} of {len(steps)}: {step.title}: done")
            continue
        if status.state != "ready":
            tell(f"stopped before step {number}, {step.title}: {status.state} {status.text}")
            return 1
        tell(f"step {number} of {len(steps)}: {step.title}: {command_line(step)}")
        code = call(step.words)
        if status_of(step).state != "done":
            tell(f"stopped at step {number}, {step.title}, with exit code {code}: no complete result, as it said")
            return code or 1
        if code:
            tell(f"step {number}, {step.title}, ended with exit code {code}, but left its result")
    return 0


def command_line(step: Step) -> str:
    """What to type for a step."""
    return shlex.join(["trianflow", *step.words])


def _depth_eigen(place: Place) -> list[Step]:
    raw = _kitti_raw(place)
    return _eigen_steps(place, "depth_eigen", raw, _kitti_raw_networks(place, raw))


def _eigen_steps(place: Place, table: str, raw: DataFolder, networks: Networks) -> list[Step]:
    test, out = _eigen_test(place, raw), _results(place, table)
    predict = DepthStep(test, test.out, out / "depth", networks)
    words = ["eval", "depth", str(test.out), str(out / "depth"), "--protocol", "eigen"]
    score = ScoreStep("score", words, out / "depth.csv", "depth_eigen", _images("eigen"), (test, predict))
    return [*networks.steps, test, predict, score]


def _eigen_test(place: Place, raw: DataFolder) -> PrepareStep:
    out, size = place.work / "eigen_test", _size("kitti_raw", place)
    return PrepareStep("prepare the test data", raw, out, size, "eigen_test", "--truth")


def _eigen_train(place: Place, raw: DataFolder) -> PrepareStep:
    out, size = place.work / "eigen_train", _size("kitti_raw", place)
    return PrepareStep("prepare the training data", raw, out, size, "eigen_train")


def _kitti2015_flow(place: Place) -> list[Step]:
    networks = _kitti_raw_networks(place, _kitti_raw(place))
    data = DataFolder(
        "KITTI 2015",
        "kitti_flow",
        place.data / "kitti_2015",
        f"unpack data_scene_flow.zip and data_scene_flow_calib.zip ({_KITTI}/eval_scene_flow.php?benchmark=flow)",
    )
    out = _results(place, "kitti2015_flow")
    images = data.path / "training" / "image_2"
    words = ["eval", "flow", str(data.path), str(out / "flow"), "--predict", str(images), "--weights", networks.file]
    score = ScoreStep(
        "predict flow and score",
        words,
        out / "flow.csv",
        "kitti2015_flow",
        ("images", _KITTI_2015_SCENES),
        networks.steps[-1:],
        data,
        data.path / "training" / "flow_occ",
        "data_scene_flow.zip",
        networks,
    )
    return [*networks.steps, score]


def _odometry(place: Place, stride: int) -> list[Step]:
    data = _kitti_odometry(place)
    within = data.path if (data.path / "sequences").is_dir() else data.path / "dataset"
    sequences = {name: within / "sequences" / name for name in ("09", "10")}
    poses = {name: within / "poses" / f"{name}.txt" for name in sequences}

    def training() -> tuple[Step, list[str], str]:
        prepare = _odometry_train(place, data)
        val = {"path": str(sequences["09"].absolute()), "poses": str(poses["09"].absolute())}
        words = _data_words(prepare.out, [{"path": "0[0-8]"}], [val])
        absent = [path for path in (sequences["09"], poses["09"]) if not path.exists()]
        lacks = f"no {absent[0]}, which the training watches; {data.remedy} into {data.path}" if absent else ""
        return prepare, [*words, "data.min_motion=0"], lacks

    networks = _networks(place, "kitti_odometry", training)
    table = "odometry" if stride == 1 else f"odometry_stride{stride}"
    out = _results(place, table)
    steps: list[Step] = []
    for name, sequence in sequences.items():
        track = OdometryStep(data, sequence, stride, out / name, networks)
        words = ["eval", "odometry", str(poses[name]), str(out / name / "trajectory.kitti")]
        words += ["--stride", str(stride)] if stride != 1 else []
        score = ScoreStep(
            f"score {name}",
            words,
            out / f"{name}.csv",
            f"kitti_odometry_{'' if stride == 1 else f'stride{stride}_'}{name}",
            ("poses", len(range(0, ODOMETRY_LENGTHS[name], stride))),
            (track,),
            data,
            poses[name],
            "data_odometry_poses.zip",
            modules=("evo",),
        )
        steps += [track, score]
    return [*networks.steps, *steps]


def _depth_nyuv2(place: Place) -> list[Step]:
    labelled = DataFolder(
        "NYUv2",
        "nyuv2_labelled",
        place.data / "nyuv2",
        f"copy nyu_depth_v2_labeled.mat and splits.mat ({_NYU})",
    )
    size = _size("nyuv2", place)

    def training() -> tuple[Step, list[str], str]:
        raw = DataFolder("NYUv2 raw", "nyuv2_raw", place.data / "nyuv2_raw", f"unpack nyu_depth_v2_raw.zip ({_NYU})")
        prepare = PrepareStep(
            "prepare the training data", raw, place.work / "nyuv2_train", size, "nyuv2_raw_train", "--crop"
        )
        return prepare, _data_words(prepare.out, [{"path": "*", "stride": 10}], []), ""

    networks = _networks(place, "nyuv2", training)
    out, prepared = _results(place, "depth_nyuv2"), place.work / "nyuv2_test"
    test = PrepareStep("prepare the test data", labelled, prepared, size, "nyuv2_test", "--truth", "--crop")
    predict = DepthStep(test, prepared, out / "depth", networks)
    words = ["eval", "depth", str(prepared), str(out / "depth"), "--protocol", "nyuv2"]
    score = ScoreStep("score", words, out / "depth.csv", "depth_nyuv2", _images("nyuv2"), (test, predict))
    return [*networks.steps, test, predict, score]


def _instadm_depth(place: Place) -> list[Step]:
    missing = MissingStep("train the networks", _NO_SYSTEM.format("Insta-DM") + _OR_WEIGHTS)
    return _without_system(place, "instadm_depth_eigen", missing)


def _instadm_odometry(place: Place) -> list[Step]:
    prepare = _odometry_train(place, _kitti_odometry(place))
    train = MissingStep("train the networks", _NO_SYSTEM.format("Insta-DM"))
    track = MissingStep(
        "trajectories of 09 and 10",
        "`trianflow vo` runs no Ego-PoseNet yet; `trianflow eval odometry` and `eval pose` score files of its authors",
    )
    return [*([prepare, train] if place.weights is None else []), track]


def _thesis_grid(place: Place) -> list[Step]:
    models = _NO_SYSTEM.format("SfMLearner or Monodepth2") + _OR_WEIGHTS
    return _without_system(
        place,
        "thesis_grid",
        MissingStep("train A1, A2, B1 to B7, C3, C6, C7", models),
        MissingStep("train B8, C8", "`trianflow prepare` has no reader for Lyft Level 5 either"),
    )


def _without_system(place: Place, table: str, *missing: MissingStep) -> list[Step]:
    """The steps to depth on Eigen's split by networks that are given; else the data, and what is missing."""
    raw = _kitti_raw(place)
    if place.weights is not None:
        return _eigen_steps(place, table, raw, Networks(place.weights))
    return [_eigen_train(place, raw), *missing, _eigen_test(place, raw)]


def _images(protocol: str) -> tuple[str, int]:
    return "images", PROTOCOLS[protocol].images


def _kitti_odometry(place: Place) -> DataFolder:
    return DataFolder(
        "KITTI odometry",
        "kitti_odometry",
        place.data / "kitti_odometry",
        f"unpack data_odometry_color.zip, _calib.zip and _poses.zip ({_KITTI}/eval_odometry.php)",
    )


def _odometry_train(place: Place, data: DataFolder) -> PrepareStep:
    out, size = place.work / "odometry_train", _size("kitti_odometry", place)
    return PrepareStep("prepare the training data", data, out, size, "odometry_train", "--min-motion", _STATIC)


def _kitti_raw(place: Place) -> DataFolder:
    return DataFolder(
        "KITTI raw",
        "kitti_raw",
        place.data / "kitti_raw",
        "unpack 2011_09_26_drive_0001_sync.zip and so on, all of city, residential and road, and 2011_09_26_calib.zip"
        f" of each date ({_KITTI}/raw_data.php, raw_data_downloader.sh)",
    )


def _kitti_raw_networks(place: Place, raw: DataFolder) -> Networks:
    def training() -> tuple[Step, list[str], str]:
        prepare = _eigen_train(place, raw)
        train = [{"path": "2011_*/*_sync/image_0[23]", "exclude": [_WATCHED_DRIVE]}]
        val = [{"path": f"{_WATCHED_DRIVE[:10]}/{_WATCHED_DRIVE}/image_02"}]
        return prepare, [*_data_words(prepare.out, train, val), "data.min_motion=0"], ""

    return _networks(place, "kitti_raw", training)


def _networks(place: Place, config: str, training: Callable[[], tuple[Step, list[str], str]]) -> Networks:
    """The weights that are given, or the steps that make them.

    Args:
        config: of the training.
        training: gives the preparation, the words for the training, and what that lacks beside it.
    """
    if place.weights is not None:
        return Networks(place.weights)
    prepare, words, lacks = training()
    train = TrainStep(_config(config), [*words, *place.overrides], place.work / "runs" / config, (prepare,), lacks)
    return Networks(str(train.weights), (prepare, train))


def _results(place: Place, table: str) -> Path:
    """Where the predictions and figures go: apart for each file of weights."""
    if place.weights is None:
        return place.work / table / "trained"
    weights = Path(place.weights)
    return place.work / table / "_".join(part for part in (weights.parent.name, weights.stem) if part)


def _size(config: str, place: Place) -> tuple[int, int]:
    """Width and height of the pictures that the networks are trained on."""
    return load_settings(TrainConfig(), _config(config), place.overrides).data.size


def _config(name: str) -> Path:
    """A YAML file of `configs`: as seen from here where that is the repository."""
    near = Path("configs") / f"{name}.yaml"
    path = near if near.is_file() else Path(__file__).resolve().parents[2] / near
    if not path.is_file():
        raise TrianflowError(f"{path}: not found; the configurations belong to the repository: clone it")
    return path


def _data_words(root: Path, train: Sequence[object], val: Sequence[object]) -> list[str]:
    """Settings of training data that are prepared: they need no cache."""
    plain = yaml.safe_load(str(root)) == str(root)
    return [
        f"data.root={root if plain else json.dumps(str(root))}",
        f"data.train={json.dumps(train)}",
        f"data.val={json.dumps(val)}",
        "data.cache=null",
    ]


_ROW = ("TrianFlow",)
_STRIDED = ("kitti_odometry_stride3_09", "kitti_odometry_stride3_10")
TABLES: dict[str, TableRecipe] = {
    "depth_eigen": TableRecipe("depth on Eigen's split of KITTI raw", ("depth_eigen",), _ROW, _depth_eigen),
    "kitti2015_flow": TableRecipe("optical flow on KITTI 2015", ("kitti2015_flow",), _ROW, _kitti2015_flow),
    "odometry": TableRecipe(
        "KITTI odometry, sequences 09 and 10",
        ("kitti_odometry_09", "kitti_odometry_10"),
        _ROW,
        lambda place: _odometry(place, 1),
    ),
    "odometry_stride3": TableRecipe(
        "KITTI odometry, every third frame of 09 and 10", _STRIDED, _ROW, lambda place: _odometry(place, 3)
    ),
    "depth_nyuv2": TableRecipe("depth indoors, NYUv2", ("depth_nyuv2",), ("TrianFlow (576x448)",), _depth_nyuv2),
    "instadm_depth_eigen": TableRecipe(
        "Insta-DM: depth on Eigen's split of KITTI raw", ("depth_eigen",), ("Insta-DM (ResNet-18)",), _instadm_depth
    ),
    "instadm_odometry": TableRecipe(
        "Insta-DM: KITTI odometry, sequences 09 and 10",
        ("kitti_odometry_09", "kitti_odometry_10", "snippet_ate_5"),
        ("Insta-DM",),
        _instadm_odometry,
    ),
    "thesis_grid": TableRecipe(
        "the fourteen configurations A1 to C8 of the thesis, whose figures it leaves empty, beside the two published",
        ("depth_eigen",),
        ("SfMLearner", "Monodepth2 (no pretraining)"),
        _thesis_grid,
    ),
}
