"""The configuration of the training data from YAML."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from trianflow.config import load_settings
from trianflow.data.pairs.config import DataConfig, PathSource, SyntheticSource
from trianflow.data.pairs.dataset import expand_source
from trianflow.errors import UsageError


def test_yaml(tmp_path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(
        "size: [416, 128]\nfit: crop\ntrain:\n  - path: drive.mp4\n    stride: 2\n  - synthetic: 100\n"
        "val:\n  - {synthetic: 10, seed: 9}\n"
    )
    config = load_settings(DataConfig(), file, ["flip=0", "cache=/data/cache"])
    assert config.size == (416, 128)
    assert config.train == (PathSource(path="drive.mp4", stride=2), SyntheticSource(synthetic=100))
    assert config.val[0] == SyntheticSource(synthetic=10, seed=9)
    assert config.flip == 0
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [{path: a, strid: 2}]", r"train\[0\].strid.; did you mean .train\[0\].stride"),
        ("train: [{synthetic: 5, path: a}]", r"unknown key .train\[0\].(synthetic|path)"),
        ("train: [{stride: 1}]", r"train\[0\].path: missing"),
        ("train: [a.mp4]", r"train\[0\]"),
        ("train: [{path: a, start: 5, end: 6}]", "no pair of frames"),
        ("train: [{path: a, depth_scale: 256}]", "without a depth folder"),
        ("train: [{synthetic: 5}]\nval: [{synthetic: 2}]", "synthetic seed 0 stands in train and in val"),
        ("size: [0, 128]", "size"),
        ("jiter: 0.1", "did you mean 'jitter'"),
    ],
)
def test_mistakes(tmp_path, text, message) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings(DataConfig(), file)


def test_python() -> None:
    with pytest.raises(ValidationError):
        DataConfig(train=[SyntheticSource(synthetic=3)], val=[SyntheticSource(synthetic=3)])
    assert DataConfig(train=[PathSource(path="a")]).train[0].stride == 1


def test_a_pattern_of_folders_is_a_source_each(tmp_path) -> None:
    for name in ("00", "01", "09"):
        (tmp_path / "sequences" / name).mkdir(parents=True)
    source = PathSource(path="sequences/0*", exclude=("01",), calib="calib.txt", stride=2)
    found = expand_source(source, str(tmp_path))
    assert [s.path for s in found] == [str(tmp_path / "sequences" / name) for name in ("00", "09")]
    assert {(s.calib, s.stride) for s in found} == {(str(tmp_path / "calib.txt"), 2)}
    with pytest.raises(UsageError, match="all of its 3 folders are excluded"):
        expand_source(PathSource(path="sequences/*", exclude=("sequences",)), str(tmp_path))


def test_folders_are_excluded_by_their_whole_names(tmp_path) -> None:
    root = tmp_path / "office_0004"
    for name in ("office_0004", "home_office_0004", "office_0004b"):
        (root / name / "images").mkdir(parents=True)

    def kept(*names: str) -> list[str]:
        sources = expand_source(PathSource(path="*/images", exclude=names), str(root))
        return [Path(source.path).parent.name for source in sources]

    assert kept("office_0004") == ["home_office_0004", "office_0004b"]
    assert kept("office_0004/images/", "home") == ["home_office_0004", "office_0004b"]


def test_other_paths_stay_one_source(tmp_path) -> None:
    (tmp_path / "1.png").touch()
    for path in ("*.png", "drive.mp4", "/absolute/drive.mp4"):
        (only,) = expand_source(PathSource(path=path), str(tmp_path))
        assert only.path == (path if path.startswith("/") else str(tmp_path / path))
    (only,) = expand_source(PathSource(path="drive.mp4", poses="poses.txt"), None)
    assert (only.path, only.poses) == ("drive.mp4", "poses.txt")
