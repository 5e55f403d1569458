"""Typed configuration: values reach their place, and what is wrong is refused with a hint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from trianflow.config import MatchConfig, OdometryConfig, Settings, TwoViewConfig, load_settings
from trianflow.errors import UsageError


def test_nothing_given_is_the_base() -> None:
    base = OdometryConfig.preset("fast")
    assert load_settings(base) == base


def test_presets() -> None:
    accurate, fast = OdometryConfig.preset("accurate"), OdometryConfig.preset("fast")
    assert accurate == OdometryConfig()
    assert fast.flow_preset == "ultrafast"
    assert fast.matches.count < accurate.matches.count
    assert fast.two_view.hypotheses < accurate.two_view.hypotheses
    with pytest.raises(UsageError, match="accurate or fast"):
        OdometryConfig.preset("quick")


def test_file_and_overrides_reach_inside_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "odometry.yaml"
    file.write_text("scale: unit\nmatches:\n  count: 500\n  cell: 16\ntwo_view: {threshold: 2}\n")
    config = load_settings(OdometryConfig.preset("fast"), file, ["matches.count=700", "seed=3"])
    assert config.scale == "unit"
    assert config.matches.count == 700, "words win over the file"
    assert config.matches.cell == 16
    fast = OdometryConfig.preset("fast")
    assert config.two_view == fast.two_view.model_copy(update={"threshold": 2.0})
    assert config.two_view.hypotheses != TwoViewConfig().hypotheses, "of the preset"
    assert config.matches.stride == fast.matches.stride
    assert isinstance(config.two_view.threshold, float)
    assert config.seed == 3
    assert config.flow_preset == "ultrafast"


def test_override_of_a_list() -> None:
    assert load_settings(TwoViewConfig(), None, ["final_steps=[1, 2]"]).final_steps == (1, 2)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert load_settings(OdometryConfig(), file) == OdometryConfig()


def test_settings_do_not_change() -> None:
    config = OdometryConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 4
    assert config.seed == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["two_view.treshold=1"], "unknown key 'two_view.treshold'; did you mean 'two_view.threshold'?"),
        (["sed=1"], "unknown key 'sed'; did you mean 'seed'?"),
        (["xyzzy=1"], "unknown key 'xyzzy'; known: weights, "),
        (["matches.count"], "'matches.count' is not of the form key=value"),
        (["seed=1", "seed.deep=1"], "seed is a single value, not a group"),
        (["matches.ratio=2"], "configuration: matches.ratio: 2 is above 1"),
        (["matches.count=7"], "matches.count: 7 is below 8"),
        (["points=1.5"], "points: 1.5 is not a whole number"),
        (["points=.inf"], "points: inf is not a finite number"),
        (["matches.count=many"], "matches.count: 'many' is not a whole number"),
        (["two_view.threshold=wide"], "two_view.threshold: 'wide' is not a number"),
        (["two_view.threshold=0"], "two_view.threshold: 0 is not above 0"),
        (["two_view.final_steps=[1, 0]"], "two_view.final_steps[1]: 0 is not above 0"),
        (["two_view.final_steps=[]"], "two_view.final_steps: 0 values, where at least 1 are needed"),
        (["scale=guess"], "scale: 'guess' is unknown; take 'auto', 'depth', 'structure' or 'unit'"),
        (["two_view=3"], "two_view: 3 is not a group of settings"),
        (["flow_preset="], "flow_preset: null is unknown; take 'ultrafast', 'fast' or 'medium'"),
        (["weights=3"], "weights: 3 is not text"),
        (["network_size=wide"], "network_size: 'wide' is not a list"),
        (["network_size=[64]"], "network_size[1]: missing"),
        (["network_size=[64, 64, 64]"], "network_size: 3 values, where at most 2 are taken"),
        ([f"network_size={'x' * 90}"], f"network_size: '{'x' * 59}... is not a list"),
    ],
)
def test_wrong_overrides(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        load_settings(OdometryConfig(), None, words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n- 2\n", "not a mapping"),
        ("three\n", "not a mapping"),
        ("a: [1\n", "cannot read the configuration"),
        ("matches:\n  cuont: 5\n", r"did you mean 'matches.count'\?"),
        ("matches: 5\n", "matches"),
        ("3: 5\n", "unknown key '3'"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        load_settings(OdometryConfig(), file)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration .*nowhere\.yaml"):
        load_settings(OdometryConfig(), tmp_path / "nowhere.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UsageError, match="cannot read the configuration"):
        load_settings(OdometryConfig(), binary)


@pytest.mark.parametrize("word", ["=3", "matches.=3", ".=1", "two_view..threshold=1"])
def test_words_with_empty_keys(word: str) -> None:
    with pytest.raises(UsageError, match="unknown key"):
        load_settings(OdometryConfig(), None, [word])


@pytest.mark.parametrize("word", ["seed=[1", "seed=: :", "flow={"])
def test_words_that_are_no_yaml(word: str) -> None:
    with pytest.raises(UsageError):
        load_settings(OdometryConfig(), None, [word])


class _Circle(Settings):
    circle: str = "unit"
    radius: float = 1.0


class _Square(Settings):
    square: str = "unit"
    side: float = 1.0
    seed: int = 0


class _Drawing(Settings):
    first: _Circle | None = None
    shapes: tuple[_Circle | _Square, ...] = ()
    named: dict[str, int] | None = None


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("first={radios: 2}", r"'first\.radios'; did you mean 'first\.radius'\?"),
        ("shapes=[{radius: 1}, {sid: 2}]", r"'shapes\[1\]\.sid'; did you mean 'shapes\[1\]\.side'\?"),
        ("shapes=[{sqare: a}]", r"did you mean 'shapes\[0\]\.square'\?"),
        ("shapes=[{seed: 1, radius: 2, sidee: 3}]", r"'shapes\[0\]\.radius'; known: square, side, seed"),
        ("shapes=[{xyzzy: 1}]", r"'shapes\[0\]\.xyzzy'; known: circle, radius"),
    ],
)
def test_unknown_keys_inside_of_lists_and_choices(word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        load_settings(_Drawing(), None, [word])


def test_right_keys_inside_of_lists_and_choices() -> None:
    words = ["shapes=[{side: 3}, {radius: 2}]", "first={radius: 4}", "named={anything: 1}"]
    assert load_settings(_Drawing(), None, words) == _Drawing(
        first=_Circle(radius=4), shapes=(_Square(side=3), _Circle(radius=2)), named={"anything": 1}
    )


class _Weights(Settings):
    whole = True
    near: float = 0.0
    far: float = 0.0


class _Scene(Settings):
    weights: _Weights = _Weights(near=1.0, far=2.0)
    other: _Weights | None = _Weights(near=3.0)


def test_what_a_file_gives_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    file.write_text("weights: {near: 5}\n")
    assert load_settings(_Scene(), file) == _Scene(weights=_Weights(near=5.0))
    assert load_settings(_Scene(), None, ["weights.near=5"]) == _Scene(weights=_Weights(near=5.0, far=2.0))
    words = ["weights.far=7", "other.far=4"]
    assert load_settings(_Scene(), file, words) == _Scene(
        weights=_Weights(near=5.0, far=7.0), other=_Weights(near=3.0, far=4.0)
    )
    file.write_text("other: {far: 1}\nweights: {}\n")
    assert load_settings(_Scene(), file) == _Scene(weights=_Weights(), other=_Weights(far=1.0))


class _Part(Settings):
    whole: ClassVar[bool] = True

    x: int = 0
    y: int = 0


class _Inherited(Settings):
    name: str = "none"
    words: tuple[str, ...] = ()
    part: _Part = _Part()
    matches: MatchConfig = MatchConfig()


def test_a_file_has_the_values_of_its_base_and_its_own_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    root = "name: root\nwords: [a, b]\npart: {x: 1, y: 2}\nmatches: {count: 50, cell: 8}\n"
    (tmp_path / "root.yaml").write_text(root)
    (tmp_path / "low" / "middle.yaml").write_text("base: ../root.yaml\nmatches: {cell: 16}\n")
    (tmp_path / "low" / "top.yaml").write_text("base: middle.yaml\nname: top\nwords: [c]\npart: {y: 3}\n")
    config = load_settings(_Inherited(), tmp_path / "low" / "top.yaml", ["matches.stride=2"])
    assert (config.name, config.words) == ("top", ("c",)), "a list is not joined"
    assert (config.matches.count, config.matches.cell, config.matches.stride) == (50, 16, 2)
    assert config.part == _Part(x=0, y=3), "what is given as a whole is"
    assert load_settings(_Inherited(), tmp_path / "low" / "middle.yaml").part == _Part(x=1, y=2)


def test_bases_that_cannot_be(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("base: b.yaml\n")
    with pytest.raises(UsageError, match=r"cannot read .*b\.yaml, the base of .*a\.yaml: No such file"):
        load_settings(_Inherited(), a)
    b.write_text("base: a.yaml\n")
    with pytest.raises(UsageError, match=r"b\.yaml is based on itself: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        load_settings(_Inherited(), a)
    b.write_text("base: [a.yaml]\n")
    with pytest.raises(UsageError, match="base names another YAML file"):
        load_settings(_Inherited(), a)
    b.write_text("nmae: x\n")
    with pytest.raises(UsageError, match="did you mean 'name'"):
        load_settings(_Inherited(), a)
